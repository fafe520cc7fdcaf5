"""
The counts of a run, held against the thresholds.

`limits` judges counts, `judging` adds up the counts of a run, `watch` looks at a run until something is decided.
"""
