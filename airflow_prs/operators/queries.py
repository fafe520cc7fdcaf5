"""Running queries through Airflow's connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow.sdk import BaseHook

from airflow_prs.errors import ConfigError

ROWS_AT_ONCE = 10_000


def run_query(sql: str, conn_id: str) -> Iterator[tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    """
    Run a query, and yield names of columns and some rows, as they come from the database.

    :raises ConfigError: if the connection is not that of a database.
    """
    hook: Any = BaseHook.get_connection(conn_id).get_hook()  # type: ignore[no-untyped-call]
    if not hasattr(hook, "get_sqlalchemy_engine"):
        raise ConfigError([f"conn_id is {conn_id!r}, a {type(hook).__name__}; allowed: a connection to a database"])
    engine = hook.get_sqlalchemy_engine()
    try:
        with engine.connect() as connection:
            # Rows come from the server when they are asked for; a % in the query is just that.
            options = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE, "no_parameters": True}
            result = connection.execution_options(**options).exec_driver_sql(sql)
            names = list(result.keys())
            yield names, []
            for rows in result.partitions(ROWS_AT_ONCE):
                yield names, rows
    finally:
        engine.dispose()
