"""Parquet files: cut by what their footers say; only the columns of a filter are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_prs.errors import InputError
from airflow_prs.plan.columns import Columns, require_same
from airflow_prs.plan.cutting import Cut, RowGroup, cut_row_groups

Filter = Sequence[Any]
"""Conditions as pyarrow takes them: ``[["year", ">=", 2020]]``."""


def cut_parquet_files(
    name: str, paths: Sequence[str], size: int, *, is_bytes: bool, rows_filter: Filter | None = None
) -> tuple[Cut, Columns]:
    """
    Cut Parquet files into mini-batches.

    :param name: of the input.
    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    :param rows_filter: which rows are wanted; None: all.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read or has other columns than the first one.
    """
    cut = Cut(name, paths)
    columns: list[str] | None = None
    nullable: dict[str, str] = {}
    for file, path in enumerate(paths):
        footer = _read_footer(path)
        schema = footer.schema.to_arrow_schema()
        columns = require_same(columns, list(schema.names), paths[0], path)
        groups = list(_row_groups(footer))
        if rows_filter is None:
            nullable |= _types_with_nulls(footer, schema)
        else:
            groups = list(_matching(name, path, groups, rows_filter))
        add_row_groups(cut, file, groups, size, is_bytes=is_bytes)
    return cut, Columns(columns, nullable)


def add_row_groups(cut: Cut, file: int, groups: Sequence[RowGroup], size: int, *, is_bytes: bool) -> None:
    """Cut one file's row groups, or what is like them, and add the mini-batches."""
    for mini_batch in cut_row_groups(groups, size, is_bytes=is_bytes):
        for rows in mini_batch:
            span = (rows.begin, rows.end)
            items = rows.end - rows.begin
            cut.add_piece(file, items=items, size_bytes=rows.size_bytes, span=span, row_group=rows.row_group)
        cut.close_mini_batch()


def type_with_nulls(kind: Any) -> str | None:
    """Say what pandas makes of a column in which some values are missing; None: what it makes of any other."""
    import pyarrow as pa

    if pa.types.is_integer(kind):
        return "float64"
    return "object" if pa.types.is_boolean(kind) else None


def _read_footer(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # An open file and not a path, which pyarrow could take for a URI.
        with Path(path).open("rb") as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path!r} cannot be read as Parquet: {error} "
            "If it is not meant to be input, give a pattern such as 'folder/*.parquet' instead of the folder."
        ) from error


def _row_groups(footer: Any) -> Iterator[RowGroup]:
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        size = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        yield RowGroup(number, group.num_rows, size)


def _types_with_nulls(footer: Any, schema: Any) -> dict[str, str]:
    """Find the columns of which a mini-batch may have another type than the whole, as nulls are elsewhere."""
    found = {}
    kinds = {field.name: type_with_nulls(field.type) for field in schema}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            kind = kinds.get(column.path_in_schema)
            if kind is not None and column.is_stats_set and column.statistics.null_count:
                found[column.path_in_schema] = kind
    return found


def _matching(name: str, path: str, groups: Sequence[RowGroup], rows_filter: Filter) -> Iterator[RowGroup]:
    """Count the rows of each row group that a filter lets through; statistics spare most of the reading."""
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet as pq

    try:
        condition = pq.filters_to_expression(rows_filter)
        fragment = pyarrow.dataset.ParquetFileFormat().make_fragment(path, pa.fs.LocalFileSystem())
        for part in fragment.split_by_row_group(condition):
            group = groups[part.row_groups[0].id]
            rows = part.count_rows(filter=condition)
            if rows:
                yield RowGroup(group.number, rows, group.size_bytes * rows // group.rows)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"the filter {rows_filter} of {name!r} does not fit {path!r}: {error}") from error
