"""Whether Airflow's supervisor watches this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

# Airflow 3.1.0 to 3.3.2: nothing public tells whether a supervisor started this process. SUPERVISOR_COMMS is then a
# CommsDecoder; `airflow dags test` sets something else.
from airflow.sdk.execution_time import task_runner

# Airflow 3.1.0 to 3.3.2: for SUPERVISOR_COMMS.
from airflow.sdk.execution_time.comms import CommsDecoder

if TYPE_CHECKING:
    from airflow.sdk import Context

EXECUTION_LINGERS = timedelta(seconds=10)
"""
How long Airflow may still assume that an execution is alive after the task has deferred or rescheduled itself.

The supervisor takes up to 5 seconds to notice that the process has ended, and the scheduler hears of it in its next
loop. If the task runs again before that, Airflow assumes that it was killed from outside, and fails or retries it.
"""


def is_supervised() -> bool:
    """Return whether Airflow's supervisor watches this process; under `airflow dags test` none does."""
    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), CommsDecoder)


def run_name(context: Context) -> str:
    """
    Return the name of a run in its run folder: the run_id, or under `airflow dags test` that of its logical date.

    There Airflow makes the run_id from the time of the call. But it replaces the earlier run of the same date, so that
    one is the run that the user runs again.
    """
    dag_run = context["dag_run"]
    if is_supervised() or dag_run.logical_date is None:
        return dag_run.run_id
    return f"test__{dag_run.logical_date.isoformat()}"


def orphan_check() -> Callable[[], bool]:
    """
    Return a function that tells whether Airflow's supervisor, which started this process, is gone.

    Without a supervisor the parent is a shell, whose end means nothing.
    """
    if not is_supervised():
        return lambda: False
    parent = os.getppid()
    return lambda: os.getppid() != parent
