"""The inference runtimes, one folder each: `descriptor.py` says what a folder provides."""
