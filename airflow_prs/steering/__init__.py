"""
What a person changes in a run that is under way or has ended.

`orders` writes aborts and new limits into the run's log, `clearing` finds the task instances that Airflow is to clear,
and `state` reads what both need to know of a run.
"""
