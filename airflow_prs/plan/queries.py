"""Queries: plan exports their rows once to a Parquet file, which is then cut like any other file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from airflow_prs.errors import InputError
from airflow_prs.inputs.columnar.gathering import cast, gathered, unify

Batch = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""The names of the columns, and a part of the rows."""

RunQuery = Callable[[str, str], Iterable[Batch]]
"""Runs a query: takes the SQL and the id of a connection, yields the rows in batches."""

_ROWS_PER_GROUP = 128 * 1024


def export_query(name: str, batches: Iterable[Batch], folder: Path) -> str:
    """
    Write the rows of a query to a Parquet file.

    Rows arrive as Python values, a few at a time, and the types of the columns are known only after the last row. So
    rows are first written to temporary Arrow files. A new file starts whenever the types change.

    :param name: name of the input.
    :param batches: the rows.
    :param folder: folder of the Parquet file; created if it does not exist.
    :return: SHA-256 of the file, see ``rows_file``.
    :raises InputError: if the values of a column have no type in common.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = rows_file(folder)
    parts: list[Path] = []
    try:
        schemas = _write_parts(name, batches, folder, parts)
        _join(name, parts, schemas[-1], target)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    with target.open("rb") as file:
        return _digest(file)


def rows_file(folder: Path) -> Path:
    """Return the path of the file with the rows of a query."""
    return folder / "rows.parquet"


def _write_parts(name: str, batches: Iterable[Batch], folder: Path, parts: list[Path]) -> list[Any]:
    """
    Write rows to temporary Arrow files.

    :param parts: the paths of the files are added here.
    :return: the schema of each file; the last one holds the values of all files.
    """
    import pyarrow as pa

    schemas: list[Any] = []
    refuse = partial(_no_common_type, name)
    with ExitStack() as stack:
        writer: Any = None
        for columns, rows in batches:
            _require_unique(name, columns)
            batch = _record_batch(name, columns, rows)
            schema = unify([*schemas[-1:], batch.schema], refuse)
            if schema != (schemas[-1] if schemas else None):
                stack.close()
                parts.append(folder / f"part-{len(parts)}.arrow")
                schemas.append(schema)
                file = stack.enter_context(pa.OSFile(str(parts[-1]), "wb"))
                writer = stack.enter_context(pa.ipc.new_stream(file, schema))
            writer.write_table(cast(pa.Table.from_batches([batch]), schema, refuse))
    return schemas


def _no_common_type(name: str, error: object) -> InputError:
    return InputError(
        f"the query of {name!r} returned values of different types in one column: {error}. Cast it in the query."
    )


def _require_unique(name: str, columns: Sequence[str]) -> None:
    if len(set(columns)) < len(columns):
        raise InputError(
            f"the query of {name!r} returned two columns with the same name: {list(columns)}; rename one with AS."
        )


def _record_batch(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import pyarrow as pa

    arrays = [_array(name, column, [row[number] for row in rows]) for number, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _array(name: str, column: str, values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except pa.ArrowException as error:
        raise InputError(
            f"column {column!r} of the query of {name!r} cannot be exported: {error}. Cast it in the query."
        ) from error


def _join(name: str, parts: Sequence[Path], schema: Any, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            with pa.memory_map(str(part)) as file, pa.ipc.open_stream(file) as stream:
                for batches in gathered(stream, _ROWS_PER_GROUP):
                    table = cast(pa.Table.from_batches(batches), schema, partial(_no_common_type, name))
                    writer.write_table(table, row_group_size=_ROWS_PER_GROUP)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1024 * 1024):
        digest.update(block)
    return digest.hexdigest()
