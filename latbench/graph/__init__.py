"""From a PyTorch module to a flat, BN-folded graph, and its 8-bit scales."""
