"""
The counts of a run, compared with the thresholds.

`limits` judges counts, `judging` adds up the counts of a run, `watch` takes one look at a run and writes verdicts.
"""
