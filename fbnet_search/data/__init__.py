"""The images that a search and a training learn from."""
