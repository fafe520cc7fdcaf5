"""The mini-batches of a node: which is next, what came of each, and when that is durable."""
