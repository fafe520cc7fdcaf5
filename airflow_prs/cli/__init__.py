"""
The job of a ParallelRunOperator from a shell, without Airflow: ``airflow-prs run``, ``check`` and ``show``.

`main` reads the command line. Each command is a module of its own, which calls the same rooms as the operators.
"""
