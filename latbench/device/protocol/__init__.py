"""The runner protocol: messages, client and transports."""
