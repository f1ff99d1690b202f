"""AOSP's own adbd, built for Linux: the device's side of the protocol that real clients speak."""
