"""Programs that time models, and that people have already, as runners."""
