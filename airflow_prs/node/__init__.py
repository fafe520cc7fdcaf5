"""
A node: the supervisor of a shard and its worker processes.

`running` is the entry point. It builds a line: the supervisor owns slots, a slot runs one worker process and takes
mini-batches from a dispatcher, and the dispatcher knows the queue, the counts and the commits, but neither of the two.
"""
