"""The inference runtimes: what each can load, run and write, one folder a runtime."""
