"""The flows from one room to the next: profile, build a LUT, measure, validate, estimate."""
