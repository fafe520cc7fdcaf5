"""Durable files: they are published atomically, and an append survives a crash."""
