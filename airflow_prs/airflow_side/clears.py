"""The try of a task that runs, and which clears it has seen."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_prs.run_folder.epochs import TaskTry

_FIRST_THAT_COUNTS_ALL = Version("3.2.0")


def this_try(context: Context, execution: int) -> TaskTry:
    """
    Return the try that runs.

    Since Airflow 3.2 clear_number counts every clear; max_tries is then None. Airflow 3.1 counts only clears of a run
    that had ended; if only tasks are cleared, their max_tries changes.

    :param execution: the execution of plan.
    """
    from airflow_prs.run_folder.epochs import TaskTry

    ti = context["ti"]
    # Airflow 3.1.0 to 3.3.2: missing or None where there is no run in the database.
    clear_number = getattr(context["dag_run"], "clear_number", None) or 0
    counts_all = Version(version("apache-airflow-core")) >= _FIRST_THAT_COUNTS_ALL
    return TaskTry(
        execution=execution,
        clear_number=clear_number,
        try_number=ti.try_number,
        max_tries=None if counts_all else ti.max_tries,
    )
