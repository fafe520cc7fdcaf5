"""
The run folder: the entire state of a run, on storage that all nodes share.

`folder` is the way in: other rooms open run folders and attempts with it. They also use what it returns, from the
modules below. `names` has keys and paths, and `manifest` the plan. `log` is the mechanism of all decisions: numbered
records. `shard_log` reads the log of a shard, `attempts` writes it, and `loans` is the part of it in which nodes lend
mini-batches to each other. `epochs` tells retries from clears, and `inheritance` is what the next attempt takes over.
`run_log` has aborts and limits, `task_log` executions of plan and merges, and `merges` decides which of them publishes.
`committed` reads all that counts of a run. `stored_runs` lists the runs of an output, and `pruning` removes old ones.
"""
