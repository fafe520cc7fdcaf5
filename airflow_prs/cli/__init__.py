"""
The same job from a shell, without Airflow: ``python -m airflow_prs run``, ``check`` and ``show``.

`main` reads the command line; each command is a module of its own, which calls the rooms as the operators do.
"""
