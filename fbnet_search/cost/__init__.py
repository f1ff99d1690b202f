"""What a network costs: latency from a LUT, and other limits."""
