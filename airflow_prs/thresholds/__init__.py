"""
The counts of a run, compared with the thresholds.

`limits` judges counts, `judging` adds up the counts of a run, `watch` takes a look at a run and aborts it.
"""
