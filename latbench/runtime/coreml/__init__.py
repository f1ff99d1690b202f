"""Core ML: packages are written here, and measured on iPhones."""
