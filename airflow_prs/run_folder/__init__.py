"""
The run folder: everything that a run knows, on storage that all nodes share.

`names` holds every file name, `files` how files appear whole, `manifest` and `columns` the plan, `attempts` what a node
writes, `ledger` how that is read, `loans` what a node asks of another one, `verdicts` what was ruled; `folder` is the
door to all of them.
"""
