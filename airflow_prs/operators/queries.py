"""Queries through Airflow's connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow.sdk import BaseHook

from airflow_prs.errors import ConfigError

BATCH_ROWS = 10_000


def run_query(sql: str, conn_id: str) -> Iterator[tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    """
    Run a query, and yield the names of the columns with rows as they arrive: first without any, then up to 10,000.

    :raises ConfigError: if the connection is not to a database.
    """
    hook: Any = BaseHook.get_connection(conn_id).get_hook()  # type: ignore[no-untyped-call]
    if not hasattr(hook, "get_sqlalchemy_engine"):
        raise ConfigError([f"conn_id is {conn_id!r}, a {type(hook).__name__}; allowed: a connection to a database"])
    engine = hook.get_sqlalchemy_engine()
    try:
        with engine.connect() as connection:
            # The server sends rows on demand; a % in the query is not a placeholder.
            options = {"stream_results": True, "max_row_buffer": BATCH_ROWS, "no_parameters": True}
            result = connection.execution_options(**options).exec_driver_sql(sql)
            names = list(result.keys())
            yield names, []
            for rows in result.partitions(BATCH_ROWS):
                yield names, rows
    finally:
        engine.dispose()
