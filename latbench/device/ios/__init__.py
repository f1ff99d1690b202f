"""iPhones: usbmux, the pairing token, the companion app's runner."""
