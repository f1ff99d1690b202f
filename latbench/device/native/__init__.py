"""The native runner, the one in C: building it, installing inference engines for it, and its files."""
