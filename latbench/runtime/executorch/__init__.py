"""ExecuTorch, an extra."""
