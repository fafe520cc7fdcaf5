"""Whole records of a text file, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_prs.plan.cutting import TableCut
from airflow_prs.plan.opening import OpenText
from airflow_prs.plan.scanning import scan_records


@dataclass(frozen=True, slots=True)
class Records:
    """
    Whole records that follow each other.

    :param begin: first byte of the text, which may hold empty lines before the first record.
    :param starts: first byte of each record.
    """

    text: bytes
    begin: int
    starts: Any

    @property
    def first(self) -> bytes:
        """The text of the first record."""
        end = int(self.starts[1]) - self.begin if len(self.starts) > 1 else len(self.text)
        return self.text[int(self.starts[0]) - self.begin : end]

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.begin + len(self.text)

    def without_first(self) -> Records:
        """Give the others."""
        begin = int(self.starts[1]) if len(self.starts) > 1 else self.end
        return Records(self.text[begin - self.begin :], begin, self.starts[1:])


def whole_records(text: OpenText, separator: str, *, comment: str | None, has_quotes: bool) -> Iterator[Records]:
    """
    Yield a file block by block; a record that goes on in the next block comes with that one.

    :param separator: character between two fields.
    :param comment: character that begins a comment.
    :param has_quotes: whether quotes may hold line breaks.
    """
    import numpy as np

    begin = text.position or 0
    pending, known = b"", np.array((), np.int64)
    blocks = scan_records(
        text.file,
        ord(separator),
        position=begin,
        comment=ord(comment) if comment else None,
        has_quotes=has_quotes,
    )
    for block, starts in blocks:
        pending, known = pending + block, np.concatenate((known, starts))
        if len(known) > 1:
            last = int(known[-1])
            yield Records(pending[: last - begin], begin, known[:-1])
            pending, begin, known = pending[last - begin :], last, known[-1:]
    yield Records(pending, begin, known)


def add_pieces(cut: TableCut, file: int, pieces: list[tuple[int, int, int]], *, is_whole: bool) -> None:
    """
    Add the mini-batches of one file.

    :param pieces: begin, end and number of records of each.
    :param is_whole: whether they make one mini-batch, as bytes have no place in the file.
    """
    if is_whole and pieces:
        items = sum(records for _, _, records in pieces)
        cut.add_piece(file, items=items, size_bytes=pieces[-1][1] - pieces[0][0])
        cut.close_mini_batch()
        return
    for begin, end, records in pieces:
        cut.add_piece(file, items=records, size_bytes=end - begin, begin=begin, end=end)
        cut.close_mini_batch()
