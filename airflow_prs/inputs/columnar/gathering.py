"""Put Arrow tables together: unify their types, cast them, and gather small batches into larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from airflow_prs.worker.reading import alike

Refuse = Callable[[object], Exception]
"""Takes the reason why values have no type in common, and returns the error to raise."""


def unify(schemas: Iterable[Any], refuse: Refuse) -> Any:
    """Return the schema that holds the values of all schemas; a column with only nulls has no type yet."""
    import pyarrow as pa

    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowException, TypeError) as error:
        raise refuse(error) from error


def cast(table: Any, schema: Any, refuse: Refuse) -> Any:
    """Return a table with the types of another schema."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    try:
        columns = [alike.cast(table[column.name], column.type) for column in schema]
        return pa.Table.from_arrays(columns, schema=schema)
    except (pa.ArrowException, TypeError) as error:
        raise refuse(error) from error


def gathered(parts: Iterable[Any], most_rows: int) -> Iterator[list[Any]]:
    """Yield lists of consecutive tables or batches; a list of several parts has at most ``most_rows`` rows."""
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
