"""The machine that latbench runs on, as a device."""
