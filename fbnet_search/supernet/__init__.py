"""The supernet: its layers, their optimised forward and backward passes, losses, training steps."""
