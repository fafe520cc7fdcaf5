"""Durable files: they appear complete or not at all, and an append stays."""
