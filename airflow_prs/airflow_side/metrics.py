"""What a node has done, as metrics of Airflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

try:
    # Airflow 3.2.0 to 3.3.2; airflow.stats names this module as its replacement.
    from airflow.sdk.observability.stats import Stats
except ImportError:
    # Airflow 3.1.0 to 3.1.8: later versions deprecate it.
    from airflow.stats import Stats

if TYPE_CHECKING:
    from airflow.sdk import Context

_PREFIX = "parallel_run."
_log = logging.getLogger(__name__)


def metrics_teller(context: Context) -> Callable[[Mapping[str, int]], None]:
    """Return a function that adds numbers to counters of Airflow, with the DAG and the task as tags."""
    send: Any = Stats.incr
    ti = context["ti"]
    tags = {"dag_id": ti.dag_id, "task_id": ti.task_id}

    def tell(counts: Mapping[str, int]) -> None:
        try:
            for name, count in counts.items():
                send(f"{_PREFIX}{name}", count, tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever a client of metrics raises, the work goes on
            _log.debug("the metrics were not sent: %r", error)

    return tell
