"""Parquet files: cut by what their footers say; only the columns of a filter are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_prs.ahead import map_ahead
from airflow_prs.errors import InputError
from airflow_prs.plan.columns import Columns, require_same, type_with_nulls
from airflow_prs.plan.cutting import TableCut
from airflow_prs.plan.row_groups import RowGroup, add_row_groups
from airflow_prs.row_filters import filter_to_plain
from airflow_prs.worker.row_filter import expression_of

Filter = Sequence[Any]
"""Conditions as pyarrow takes them, ``[["year", ">=", 2020]]``, and None for what is missing."""

_THREADS = 4
"""Enough to hide most of a file server's latency; each costs some memory, and on a local disk more bring nothing."""


def cut_parquet_files(
    name: str, paths: Sequence[str], size: int, *, is_bytes: bool, rows_filter: Filter | None = None
) -> tuple[TableCut, Columns]:
    """
    Cut Parquet files into mini-batches.

    :param name: of the input.
    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    :param rows_filter: which rows are wanted; None: all.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read or has other columns than the first one.
    """
    cut = TableCut(name, paths)
    columns: list[str] | None = None
    nullable: dict[str, str] = {}
    footers = map_ahead(_read_footer, paths, threads=_THREADS)
    for file, (path, footer) in enumerate(zip(paths, footers, strict=True)):
        schema = footer.schema.to_arrow_schema()
        columns = require_same(columns, list(schema.names), paths[0], path)
        groups, with_nulls = _look_at(footer, schema)
        if rows_filter is None:
            nullable |= with_nulls
        else:
            groups = list(_matching(name, path, groups, rows_filter))
        add_row_groups(cut, file, groups, size, is_bytes=is_bytes)
    return cut, Columns(columns, nullable)


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


def _look_at(footer: Any, schema: Any) -> tuple[list[RowGroup], dict[str, str]]:
    """
    Look at every column of every row group, once.

    :return: the row groups, and the types of the columns of which a mini-batch may have another type than the whole, as
        nulls are elsewhere.
    """
    kinds = {field.name: type_with_nulls(field.type) for field in schema}
    names = [footer.schema.column(position).path for position in range(footer.num_columns)]
    watched = {position: name for position, name in enumerate(names) if kinds.get(name) is not None}
    groups, with_nulls = [], {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        parts = list(map(group.column, range(group.num_columns)))
        groups.append(RowGroup(number, group.num_rows, sum([part.total_compressed_size for part in parts])))
        for position, name in list(watched.items()):
            if parts[position].is_stats_set and parts[position].statistics.null_count:
                with_nulls[name] = str(kinds[name])
                del watched[position]
    return groups, with_nulls


def _matching(name: str, path: str, groups: Sequence[RowGroup], rows_filter: Filter) -> Iterator[RowGroup]:
    """Count the rows of each row group that a filter lets through; statistics spare most of the reading."""
    import pyarrow as pa
    import pyarrow.dataset

    try:
        condition = expression_of(filter_to_plain(rows_filter))
        fragment = pyarrow.dataset.ParquetFileFormat().make_fragment(path, pa.fs.LocalFileSystem())
        for part in fragment.split_by_row_group(condition):
            group = groups[part.row_groups[0].id]
            rows = part.count_rows(filter=condition)
            if rows:
                yield RowGroup(group.number, rows, group.size_bytes * rows // group.rows)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"the filter {rows_filter} of {name!r} does not fit {path!r}: {error}") from error
