"""
The tasks of a ParallelRunOperator, and the operator itself.

`declaration` checks what the author wrote, `promotion` adds parameters to the DAG's form, `dealing` divides the
arguments of Airflow's operators among the tasks, and `variables` keeps environment variables out of the database.
`plan`, `mini_batches` and `merge` are the tasks; `parallel_run` connects them.
"""
