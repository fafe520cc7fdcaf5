"""
A node: one shard's supervisor and its worker processes.

`running` is the way in; `supervisor` keeps the processes busy, `slots` one process at a time, `process` starts and ends
it, `queue` says what is next, `committing` makes outcomes durable, `watching` looks for reasons to stop.
"""
