"""The progress of a running task in Airflow's UI."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

PROGRESS_KEY = "progress"
_log = logging.getLogger(__name__)


def progress_teller(context: Context) -> Callable[[Mapping[str, Any]], None]:
    """
    Return a function that stores the progress of a task.

    The function returns immediately: if Airflow's supervisor never answers, the node must continue.
    """
    # Airflow 3.3.0 to 3.3.2. Earlier versions have no task state store; the function then does nothing.
    store: Any = context.get("task_state_store")
    if store is None:
        return lambda _: None
    telling: list[threading.Thread] = []

    def put(progress: Mapping[str, Any]) -> None:
        try:
            store.set(PROGRESS_KEY, dict(progress))
        except Exception as error:  # noqa: BLE001 - whatever Airflow or a custom backend raises, the work goes on
            _log.debug("the task state store did not take the progress: %r", error)

    def tell(progress: Mapping[str, Any]) -> None:
        if not any(thread.is_alive() for thread in telling):
            telling[:] = [threading.Thread(target=put, args=(progress,), name="airflow_prs-progress", daemon=True)]
            telling[0].start()

    return tell
