"""Whole records of a text file, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from airflow_prs.plan.bits import Starts
from airflow_prs.plan.cutting import TableCut
from airflow_prs.plan.opening import OpenText
from airflow_prs.plan.scanning import BLOCK_BYTES, Block, scan_records


@dataclass(frozen=True, slots=True)
class Records:
    """
    What is known once one more block was read.

    :param parts: the text of whole records that follow each other; there may be empty lines before the first one.
    :param end: one past the last byte of the text.
    :param starts: first bytes of the records that show in the block; the last one's text comes later.
    :param first: where in the text the first record of the file begins and ends; None: it is not in it.
    :param is_plain: whether there is nothing but simple fields and those that are quoted as a whole.
    """

    parts: Sequence[bytes | memoryview]
    end: int
    starts: Starts
    first: tuple[int, int] | None
    is_plain: bool

    @property
    def text(self) -> bytes:
        """The parts together; made anew each time, so that it costs nothing where nobody asks."""
        return b"".join(self.parts)

    @property
    def size_bytes(self) -> int:
        """Length of the text."""
        return sum(map(len, self.parts))


def whole_records(
    text: OpenText, separator: str, *, comment: str | None, has_quotes: bool, block_bytes: int = BLOCK_BYTES
) -> Iterator[Records]:
    """
    Yield a file block by block; a record that goes on in the next block comes with that one.

    :param separator: character between two fields.
    :param comment: character that begins a comment.
    :param has_quotes: whether quotes may hold line breaks.
    :param block_bytes: how much is read at once.
    """
    waiting = _Waiting(text.position or 0)
    blocks = scan_records(
        text.file,
        ord(separator),
        position=waiting.begin,
        comment=ord(comment) if comment else None,
        has_quotes=has_quotes,
        block_bytes=block_bytes,
    )
    for block in blocks:
        yield waiting.add(block)
    yield waiting.rest()


class _Waiting:
    """
    Text that was read, but goes on.

    :param begin: position of its first byte.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self._end = begin
        self._parts: list[bytes] = []
        self._is_plain = True
        self._first: int | None = None
        self._second: int | None = None
        self._is_first_out = False

    def add(self, block: Block) -> Records:
        """Give what is whole with one more block."""
        starts = block.starts
        count = len(starts)
        if self._second is None:
            self._note(starts)
        is_plain = self._is_plain and block.is_plain
        if self._second is None or not count:
            self._parts.append(block.text)
            self._end += len(block.text)
            self._is_plain = is_plain
            return Records((), self.begin, starts, None, is_plain)
        last = starts.at(count - 1)
        parts, rest = self._cut(block.text, last - self._end)
        records = Records(parts, last, starts, self._span_of_first(), is_plain)
        self._end += len(block.text)
        self.begin = last
        self._parts = [rest]
        self._is_plain = block.is_plain
        return records

    def _cut(self, text: bytes, at: int) -> tuple[Sequence[bytes | memoryview], bytes]:
        """Put what has waited before a text, and cut that."""
        if at < 0:  # a blank line that began in a block before went on with a record
            text, at = b"".join([*self._parts, text]), self._end - self.begin + at
            return [text[:at]], text[at:]
        return [*self._parts, memoryview(text)[:at]], text[at:]

    def rest(self) -> Records:
        """Give what is left at the end of the file."""
        return Records(self._parts, self._end, Starts.of(()), self._span_of_first(), self._is_plain)

    def _note(self, starts: Starts) -> None:
        found = iter(starts.at_each(range(min(len(starts), 2))))
        if self._first is None:
            self._first = next(found, None)
        self._second = next(found, None)

    def _span_of_first(self) -> tuple[int, int] | None:
        if self._first is None or self._is_first_out:
            return None
        self._is_first_out = True
        end = self._end if self._second is None else self._second
        return self._first - self.begin, end - self.begin


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
