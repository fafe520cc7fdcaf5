"""Arrow tables put together: the types that hold the values of all, and small batches gathered into larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from airflow_prs.worker.reading import alike

Refuse = Callable[[object], Exception]
"""Returns the error of values that have no type in common, from the reason."""


def unify(schemas: Iterable[Any], refuse: Refuse) -> Any:
    """Return the types that hold the values of all schemas; nulls alone have none yet."""
    import pyarrow as pa

    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowException, TypeError) as error:
        raise refuse(error) from error


def cast(table: Any, schema: Any, refuse: Refuse) -> Any:
    """Return a table with other types of columns."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    try:
        columns = [alike.cast(table[column.name], column.type) for column in schema]
        return pa.Table.from_arrays(columns, schema=schema)
    except (pa.ArrowException, TypeError) as error:
        raise refuse(error) from error


def gathered(parts: Iterable[Any], most_rows: int) -> Iterator[list[Any]]:
    """Yield lists of tables or batches that follow each other, each of at most so many rows, unless it has one part."""
    held: list[Any] = []
    rows = 0
    for part in parts:
        if held and rows + len(part) > most_rows:
            yield held
            held, rows = [], 0
        held.append(part)
        rows += len(part)
    if held:
        yield held
