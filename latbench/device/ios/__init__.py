"""iPhones: usbmux, pairing, and the runner in the companion app."""
