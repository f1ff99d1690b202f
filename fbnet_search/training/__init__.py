"""Train the network that a search found from scratch, and write it for every runtime and tool."""
