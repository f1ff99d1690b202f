"""The supernet: its layers, their fast paths, the losses, and a step of training."""
