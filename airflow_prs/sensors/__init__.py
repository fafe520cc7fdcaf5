"""The task that watches a run while its shards are running."""
