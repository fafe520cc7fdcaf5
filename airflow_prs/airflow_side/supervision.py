"""Who watches this process: Airflow's supervisor, or nobody but the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder

EXECUTION_LINGERS = timedelta(seconds=10)
"""
How long after a task has deferred or rescheduled itself Airflow may still hold that execution for alive.

The supervisor takes up to 5 seconds to notice that the process has ended, the scheduler its loop to hear of it. A task
that runs again by then is taken for one that was killed from outside, and is failed or retried.
"""


def is_supervised() -> bool:
    """Whether Airflow's supervisor watches this process; under `airflow dags test` none does."""
    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), CommsDecoder)


def orphan_check() -> Callable[[], bool]:
    """
    Give a question to ask now and then: whether Airflow's supervisor, which started this process, is gone.

    Without one the parent is a shell, whose end means nothing.
    """
    if not is_supervised():
        return lambda: False
    parent = os.getppid()
    return lambda: os.getppid() != parent
