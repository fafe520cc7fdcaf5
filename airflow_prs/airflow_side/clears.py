"""Which clears a task of this run has seen."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from airflow.sdk import Context

_FIRST_THAT_COUNTS_ALL = Version("3.2.0")


def count_clears(context: Context) -> tuple[int, int | None]:
    """
    Return the run's clear_number, and max_tries of the task if it shows clears that clear_number does not.

    Since Airflow 3.2 clear_number counts every clear; max_tries is then None. Airflow 3.1 counts only clears of a run
    that had ended; if only tasks are cleared, their max_tries changes.
    """
    # Airflow 3.1.0 to 3.3.2: missing or None where there is no run in the database.
    clear_number = getattr(context["dag_run"], "clear_number", None) or 0
    counts_all = Version(version("apache-airflow-core")) >= _FIRST_THAT_COUNTS_ALL
    return clear_number, None if counts_all else context["ti"].max_tries
