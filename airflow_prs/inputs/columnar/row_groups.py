"""Cut row groups into mini-batches. Nothing here reads a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.sources import MiniBatchSize


class RowGroup(NamedTuple):
    """
    A row group of a Parquet file; a tuple, since there may be millions.

    :param number: number in the file.
    :param size_bytes: compressed size in the file.
    """

    number: int
    rows: int
    size_bytes: int


class Rows(NamedTuple):
    """Rows of one row group, from ``begin`` to before ``end``."""

    row_group: int
    begin: int
    end: int
    size_bytes: int


def add_row_groups(cut: TableCut, file: int, groups: Iterable[RowGroup], size: MiniBatchSize) -> None:
    """Add the mini-batches of one file's row groups, or of its record batches."""
    row = 1
    for mini_batch in cut_row_groups(groups, size.count, is_bytes=size.is_bytes):
        for row_group, begin, end, size_bytes in mini_batch:
            items = end - begin
            cut.add_piece(file, items=items, size_bytes=size_bytes, begin=begin, end=end, row_group=row_group, row=row)
            row += items
        cut.close_mini_batch()


def cut_row_groups(groups: Iterable[RowGroup], size: int, *, is_bytes: bool) -> Iterator[list[Rows]]:
    """
    Yield the mini-batches of one file's row groups.

    Row groups are put together as long as they fit. A row group that is too large by itself is cut into even parts.

    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    """
    together: list[Rows] = []
    weight = 0
    for group in groups:
        number, rows, size_bytes = group
        own = size_bytes if is_bytes else rows
        if together and weight + own > size:
            yield together
            together, weight = [], 0
        if own > size:
            yield from ([part] for part in _parts(group, min(rows, -(-own // size))))
        elif rows:
            together.append(Rows(number, 0, rows, size_bytes))
            weight += own
    if together:
        yield together


def _parts(group: RowGroup, count: int) -> Iterator[Rows]:
    for part in range(count):
        begin, end = group.rows * part // count, group.rows * (part + 1) // count
        size = group.size_bytes * end // group.rows - group.size_bytes * begin // group.rows
        yield Rows(group.number, begin, end, size)
