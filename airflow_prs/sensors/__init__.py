"""The task that watches a run while its shards work."""
