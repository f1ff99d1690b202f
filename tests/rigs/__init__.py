"""Stand-ins for devices: they speak the real protocols, and fail on demand."""
