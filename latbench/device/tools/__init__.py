"""Programs that people already have for timing models, as runners."""
