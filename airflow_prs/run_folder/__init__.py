"""
The run folder: the entire state of a run, on storage that all nodes share.

`folder` is the way in: other rooms open run folders and attempts with it. They also use the records that it returns,
from the modules below. `names` has the paths and `manifest` the plan. `attempt_records`
has the records of an attempt, `attempts` writes them, `ledger` reads them, and `tries` finds failed tries. `loans` asks
another node for mini-batches, `verdicts` stores verdicts, and `committed` reads all that counts of a run.
"""
