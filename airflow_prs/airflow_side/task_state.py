"""What the UI shows of a task that is running: Airflow's task state store, from 3.3 on."""

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
    Give a function that puts how far a task is into its state store; before Airflow 3.3 it does nothing.

    It returns at once: an answer of Airflow's supervisor that never comes must not hold up a node.
    """
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
