"""What each task of ours runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_prs.airflow_side.failures import no_retry_where_hopeless
from airflow_prs.airflow_side.object_storage import use_airflow_connections


@contextmanager
def as_task() -> Iterator[None]:
    """Take connections to object storage from Airflow, and retry no error that another try would only repeat."""
    use_airflow_connections()
    with no_retry_where_hopeless():
        yield
