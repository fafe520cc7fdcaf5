"""
The tasks of a ParallelRunOperator, and the operator itself.

`declaration` checks what the user wrote, `promotion` offers parameters in the DAG's form, `dealing` deals out the
arguments of Airflow's operators, `variables` keeps environment variables out of the database; `plan`, `mini_batches`
and `merge` are the tasks, `parallel_run` wires them.
"""
