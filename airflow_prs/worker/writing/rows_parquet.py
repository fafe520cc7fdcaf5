"""Rows for a Parquet file: an Arrow stream for each mini-batch, all with the same schema."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

# This module is imported only if the result is a Parquet file.
import pyarrow as pa  # noqa: TID253

# Relative, because this package has another name in a worker process.
from . import columns, layout, rows, widening  # noqa: TID252

WANTED_BY = "append_row_format 'parquet'"
BATCH_ROWS = 65_536
BATCH_BYTES = 16 << 20
FOR_NOW = {b"for_now": b"1"}
"""Marks the schema of a DataFrame without rows, which is used until there is one with rows."""


class ParquetRows:
    """
    Writes what run() returned as an Arrow stream, in the schema that all mini-batches share.

    The first mini-batch with rows determines the schema, and later ones widen it if no value changes by that. Until
    then the schema is that of a mini-batch without rows.

    :param common: the layout for the schema.
    """

    def __init__(self, common: layout.Layout) -> None:
        self._common = common

    def __call__(self, elements: Any, write: Callable[[bytes], Any]) -> None:
        """Write what run() returned."""
        if len(elements):
            table = _table_of(elements)
            _write_stream(self._common.agree(lambda content: _cast(table, content)), write)
        elif rows.is_data_frame(elements) or rows.is_arrow_table(elements):
            with contextlib.suppress(rows.BadResultError):  # without rows nothing can be lost
                self._common.agree(lambda content: (None, b"" if content else _for_now(elements)))


def _for_now(elements: Any) -> bytes:
    schema = _table_of(elements).schema
    return _bytes_of(schema.with_metadata(FOR_NOW)) if len(schema) else b""


def _cast(table: Any, content: bytes) -> tuple[Any, bytes]:
    """Return a table in the schema of a revision of the layout, with b"", or else with the schema that it needs."""
    known = pa.ipc.read_schema(pa.py_buffer(content)) if content else None
    if known is None or known.metadata == FOR_NOW:
        _check_storable(table.schema)
        return table, _bytes_of(table.schema)
    table = table.select(columns.positions_of(table.column_names, known.names))
    schema = _widen(known, table.schema)
    if not schema.equals(known):
        _check_storable(schema)
        return table, _bytes_of(schema)
    cast = [_cast_column(table.column(place), field) for place, field in enumerate(schema)]
    return pa.Table.from_arrays(cast, schema=schema), b""


def _bytes_of(schema: Any) -> bytes:
    content: bytes = schema.serialize().to_pybytes()
    return content


def _widen(known: Any, new: Any) -> Any:
    pairs = zip(known, new)  # noqa: B905 - Python 3.9 has no strict
    return pa.schema([pa.field(old.name, widening.widen(old.type, field.type)) for old, field in pairs])


def _table_of(elements: Any) -> Any:
    """
    Return elements as a table of plain types: dictionaries and extension types are replaced by their storage types.

    :raises BadResultError: if Arrow or Parquet cannot hold a value.
    """
    try:
        if rows.is_data_frame(elements):
            columns.names_of(elements)
            table = pa.Table.from_pandas(elements, preserve_index=False)
        elif rows.is_arrow_table(elements):
            columns.names_of(elements)
            table = elements if isinstance(elements, pa.Table) else pa.Table.from_batches([elements])
        else:
            table = _table_of_records(columns.records_of(elements, WANTED_BY))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        more = columns.describe_too_large(elements) if isinstance(error, OverflowError) else ""
        raise rows.BadResultError(
            f"run() returned rows that Arrow cannot hold: {'; '.join(map(str, error.args))}{more}"
        ) from None
    plain = [_plain(table.column(place), name) for place, name in enumerate(table.column_names)]
    return pa.Table.from_arrays(plain, names=table.column_names)


def _table_of_records(records: dict[str, list[Any]]) -> Any:
    arrays = []
    for name, values in records.items():
        try:
            arrays.append(pa.array(values, from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:  # noqa: PERF203 - to name the column
            raise rows.BadResultError(f"column {name!r} of what run() returned cannot be Parquet: {error}") from None
    return pa.Table.from_arrays(arrays, names=[str(name) for name in records])


def _plain(column: Any, name: str) -> Any:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if getattr(column.type, "extension_name", None) == "pandas.period":
        raise rows.BadResultError(
            f"column {name!r} of what run() returned holds periods, which a Parquet file would store as numbers; "
            "use astype(str), or dt.to_timestamp()"
        )
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column


def _cast_column(column: Any, field: Any) -> Any:
    """
    Return a column cast to the type that it has in earlier mini-batches.

    :raises BadResultError: if a value would change.
    """
    try:
        return widening.cast_column(column, field.type)
    except (pa.ArrowException, widening.LossError):
        raise rows.BadResultError(
            f"column {field.name!r} of what run() returned is of type {column.type}, and cannot be cast without loss "
            f"to {field.type}, its type in earlier mini-batches; a Parquet file has one type for each column: use "
            "astype()"
        ) from None


def _check_storable(schema: Any) -> None:
    found = widening.find_unstorable([field.with_type(widening.storable(field.type)) for field in schema])
    if found is not None:
        field, error = found
        raise rows.BadResultError(f"column {field.name!r} of what run() returned cannot be Parquet: {error}")


def _write_stream(table: Any, write: Callable[[bytes], Any]) -> None:
    compression = "lz4" if pa.Codec.is_available("lz4") else None
    batch_rows = max(1, min(BATCH_ROWS, len(table) * BATCH_BYTES // max(1, table.nbytes)))
    raw = rows.Raw(write)
    try:
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(raw, table.schema, options=options) as stream:
            for batch in table.to_batches(max_chunksize=batch_rows):
                stream.write_batch(batch)
    finally:
        raw.is_over = True  # after an error, closing the stream must not write what is left in it
