"""Train a found network from scratch, test it, and write its files."""
