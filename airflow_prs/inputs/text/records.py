"""Whole records of a text file, block by block; none is larger than what memory is to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from airflow_prs.errors import InputError
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.sources import RecordLimit
from airflow_prs.inputs.text.bits import Starts
from airflow_prs.inputs.text.opening import OpenText
from airflow_prs.inputs.text.scanning import BLOCK_BYTES, Block, UnclosedQuoteError, find_open_quote, scan_records
from airflow_prs.worker.reading.lines import breaks_in


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


def marks_of(separator: str, comment: str | None) -> str:
    """Give the characters by which records are found."""
    return f'\n\r" \t{separator}{comment or ""}'


def whole_records(
    text: OpenText,
    separator: str,
    *,
    comment: str | None,
    max_record_size: RecordLimit,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Records]:
    """
    Yield a file block by block; a record that goes on in the next block comes with that one.

    :param separator: character between two fields.
    :param comment: character that begins a comment.
    :param max_record_size: of a record, with the empty lines behind it.
    :param block_bytes: how much is read at once.
    :raises InputError: if a record is larger, or the file ends inside a quoted field.
    """
    most = max_record_size.size_bytes
    waiting = _Waiting(text.position or 0)
    hash_byte = ord(comment) if comment else None
    # A block is never larger than a record may be: then only what goes on from block to block can be too large.
    blocks = scan_records(
        text.file,
        ord(separator),
        position=waiting.begin,
        comment=hash_byte,
        block_bytes=min(block_bytes, most),
    )
    try:
        for block in blocks:
            goes_on_to = block.starts.at(0) if len(block.starts) else waiting.end + len(block.text)
            if goes_on_to - waiting.last > most:
                parts = () if len(block.starts) else (*waiting.parts, block.text)
                opened = find_open_quote(parts, ord(separator), hash_byte)
                raise _too_large(text, waiting, opened, max_record_size)
            yield waiting.add(block)
    except UnclosedQuoteError:
        opened = find_open_quote(waiting.parts, ord(separator), hash_byte) or 0
        place = place_of(text, waiting.begin + opened)
        problem = f"ends inside a quoted field: the quote that opens it, at {place}, is not closed."
        raise InputError(f"{text.path!r} {problem}") from None
    yield waiting.rest()


def whole_lines(text: OpenText, *, max_record_size: RecordLimit) -> Iterator[tuple[bytes, int]]:
    """
    Yield whole lines of a file, some at a time, each time with the position of their end; only LF ends a line.

    :raises InputError: if a line is larger than max_record_size.
    """
    most = max_record_size.size_bytes
    begin = end = text.position or 0
    parts: list[bytes] = []
    while block := text.file.read(min(BLOCK_BYTES, most)):
        cut = block.rfind(b"\n") + 1
        first = block.find(b"\n") + 1 or len(block)
        if end + first - begin > most:
            place, limit = place_of(text, begin), max_record_size.written
            problem = f"the line that begins at {place} is larger than max_record_size, which is {limit!r}."
            raise InputError(f"{text.path!r}: {problem} {_RAISE}")
        end += len(block)
        parts.append(block)
        if cut:
            begin = end - len(block) + cut
            parts[-1] = block[:cut]
            yield b"".join(parts), begin
            parts = [block[cut:]]
    yield b"".join(parts), end


_RAISE = "Give a larger one if your records are that large."


def _too_large(text: OpenText, waiting: _Waiting, opened: int | None, max_record_size: RecordLimit) -> InputError:
    place = place_of(text, waiting.last)
    problem = f"the record that begins at {place} is larger than max_record_size, which is {max_record_size.written!r}."
    if opened is not None:
        quote = place_of(text, waiting.begin + opened)
        problem += f" It is inside a quoted field, opened at {quote}: its closing quote may be missing."
    return InputError(f"{text.path!r}: {problem} {_RAISE}")


def place_of(text: OpenText, position: int) -> str:
    """Say where a byte is."""
    line = f"line {line_at(text, position)}"
    return line if text.is_whole else f"{line} (byte {position})"


def line_at(text: OpenText, position: int, count: Callable[[bytes, bytes], int] = breaks_in) -> int:
    """
    Give the number of the line in which a byte is.

    The file is read once more up to there, as counting lines all the time costs too much.

    :param count: counts the ends of lines in a block.
    """
    with text.again() as again:
        left = position - (again.position or 0)
        breaks, last = 0, b""
        while left and (block := again.file.read(min(left, BLOCK_BYTES))[:left]):  # what is decoded may be more
            left -= len(block)
            breaks += count(block, last)
            last = block[-1:]
    return breaks + 1


class _Waiting:
    """
    Text that was read, but goes on.

    :param begin: position of its first byte.
    :ivar parts: the text.
    :ivar end: one past its last byte.
    :ivar last: first byte of the last record that was found.
    """

    def __init__(self, begin: int) -> None:
        self.begin = self.end = self.last = begin
        self.parts: list[bytes] = []
        self._is_plain = True
        self._first: int | None = None
        self._second: int | None = None
        self._is_first_out = False

    def add(self, block: Block) -> Records:
        """Give what is whole with one more block."""
        starts = block.starts
        count = len(starts)
        if count:
            self.last = starts.at(count - 1)
        if self._second is None:
            self._note(starts)
        is_plain = self._is_plain and block.is_plain
        if self._second is None or not count:
            self.parts.append(block.text)
            self.end += len(block.text)
            self._is_plain = is_plain
            return Records((), self.begin, starts, None, is_plain)
        parts, rest = self._cut(block.text, self.last - self.end)
        records = Records(parts, self.last, starts, self._span_of_first(), is_plain)
        self.end += len(block.text)
        self.begin = self.last
        self.parts = [rest]
        self._is_plain = block.is_plain
        return records

    def _cut(self, text: bytes, at: int) -> tuple[Sequence[bytes | memoryview], bytes]:
        """Put what has waited before a text, and cut that."""
        if at < 0:  # a blank line that began in a block before went on with a record
            text, at = b"".join([*self.parts, text]), self.end - self.begin + at
            return [text[:at]], text[at:]
        return [*self.parts, memoryview(text)[:at]], text[at:]

    def rest(self) -> Records:
        """Give what is left at the end of the file."""
        return Records(self.parts, self.end, Starts.of(()), self._span_of_first(), self._is_plain)

    def _note(self, starts: Starts) -> None:
        found = iter(starts.at_each(range(min(len(starts), 2))))
        if self._first is None:
            self._first = next(found, None)
        self._second = next(found, None)

    def _span_of_first(self) -> tuple[int, int] | None:
        if self._first is None or self._is_first_out:
            return None
        self._is_first_out = True
        end = self.end if self._second is None else self._second
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
