"""The runner protocol: messages, the client, and what carries its bytes."""
