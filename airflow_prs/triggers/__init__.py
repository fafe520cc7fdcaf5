"""What waits for a run without a worker slot."""
