"""Parquet files: cut by what their footers say, without reading the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_prs.errors import InputError
from airflow_prs.plan.cutting import Cut, RowGroup, cut_row_groups


def cut_parquet_files(name: str, paths: Sequence[str], size: int, *, is_bytes: bool) -> tuple[Cut, list[str] | None]:
    """
    Cut Parquet files into mini-batches.

    :param name: of the input.
    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    :return: the mini-batches, and the names of the columns; None if there is no file.
    :raises InputError: if a file cannot be read or has other columns than the first one.
    """
    cut = Cut(name, paths)
    columns: list[str] | None = None
    for file, path in enumerate(paths):
        footer = _read_footer(path)
        names = list(footer.schema.to_arrow_schema().names)
        if columns is not None and names != columns:
            raise InputError(
                f"{path!r} has the columns {names}, but {paths[0]!r} has {columns}; "
                "all files of an input must have the same columns in the same order."
            )
        columns = names
        for mini_batch in cut_row_groups(_row_groups(footer), size, is_bytes=is_bytes):
            for rows in mini_batch:
                span = (rows.begin, rows.end)
                items = rows.end - rows.begin
                cut.add_piece(file, items=items, size_bytes=rows.size_bytes, span=span, row_group=rows.row_group)
            cut.close_mini_batch()
    return cut, columns


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


def _row_groups(footer: Any) -> list[RowGroup]:
    groups = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        size = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        groups.append(RowGroup(number, group.num_rows, size))
    return groups
