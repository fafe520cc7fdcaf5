"""Waiting for a run without a worker slot."""
