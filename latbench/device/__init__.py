"""Devices: the catalogue, the kinds of devices, and the runner protocol. Start with `registry`."""
