"""Lower a PyTorch module to a flat graph with folded BN, and find its int8 scales."""
