"""Read the records of a text file block by block. Records have a limit, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from airflow_prs.errors import InputError
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.sources import RecordLimit
from airflow_prs.inputs.text.opening import OpenText
from airflow_prs.inputs.text.scanning import Scanner
from airflow_prs.worker.reading.lines import breaks_in

if TYPE_CHECKING:
    from airflow_prs.inputs.text.scanning import Positions

BLOCK_BYTES = 1024 * 1024
"""Size of a block. In smaller blocks the types of columns take longer to find."""

_READ_BYTES = 512 * 1024
"""Size of a read. With more, the arrays of the scanner do not fit into the processor's caches."""


@dataclass(frozen=True, slots=True)
class Records:
    """
    Complete records that follow each other in a file.

    :param starts: position of the first byte of each record.
    :param end: position after the last byte.
    :param parts: the text of the records; there may be empty lines and comments before the first one.
    :param is_plain: whether the text is plain, see ``Scanner.scan``.
    """

    starts: Positions
    end: int
    parts: Sequence[bytes | memoryview]
    is_plain: bool

    @property
    def text(self) -> bytes:
        """Return the joined parts; they are joined in each call, since many callers do not need the text."""
        return b"".join(self.parts)

    def split(self) -> tuple[bytes, Records]:
        """Return the text of the first record, and the other records."""
        text = self.text
        begin = self.end - len(text)
        first, second = [*self.starts[:2].tolist(), self.end][:2]
        others = Records(self.starts[1:], self.end, [text[second - begin :]], self.is_plain)
        return text[first - begin : second - begin], others


def marks_of(separator: str, comment: str | None) -> str:
    """Return the characters that separate records, fields and comments."""
    return f'\n\r" \t{separator}{comment or ""}'


def complete_records(
    text: OpenText,
    separator: str,
    *,
    comment: str | None,
    max_record_size: RecordLimit,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Records]:
    """
    Yield the records of a file block by block. A record that continues in the next block belongs to that block.

    :param separator: character between two fields.
    :param comment: character that begins a comment.
    :param max_record_size: limit of a record, with the empty lines after it.
    :param block_bytes: approximate size of a block.
    :raises InputError: if a record is larger than the limit, or the file ends inside a quoted field.
    """
    import numpy as np

    most = max_record_size.size_bytes
    block_bytes = min(block_bytes, most)
    scanner = Scanner(separator, comment, text.position or 0)
    parts: list[bytes] = []
    starts, is_plain = np.array([], np.int64), True
    edge = scanner.position
    for lines in _whole_lines(text.file, min(_READ_BYTES, block_bytes), most, (b"\n", b"\r")):
        begin = scanner.position
        found, are_plain = scanner.scan(lines)
        edges = np.concatenate(([edge], found, [scanner.position]))
        too_large = np.flatnonzero(np.diff(edges) > most)
        if len(too_large):
            opened_at = scanner.opened_at if scanner.is_quoted and too_large[0] == len(found) else None
            raise _too_large(text, int(edges[too_large[0]]), max_record_size, opened_at)
        edge = int(edges[-2])
        is_plain &= are_plain
        starts = np.concatenate((starts, found))
        if len(found) and edge - starts[0] >= block_bytes:
            yield Records(starts[:-1], edge, [*parts, memoryview(lines)[: edge - begin]], is_plain)
            starts, parts, is_plain = starts[-1:], [lines[edge - begin :]], are_plain
        else:
            parts.append(lines)
    if scanner.is_quoted:
        place = place_of(text, scanner.opened_at)
        problem = f"ends inside a quoted field: the quote that opens it, at {place}, is not closed."
        raise InputError(f"{text.path!r} {problem}")
    if len(starts):
        yield Records(starts, scanner.position, parts, is_plain)


def complete_lines(text: OpenText, *, max_record_size: RecordLimit) -> Iterator[tuple[bytes, int]]:
    """
    Yield some complete lines of a file at a time, with the position of their end. Only LF ends a line.

    :raises InputError: if a line is larger than max_record_size.
    """
    most = max_record_size.size_bytes
    end = text.position or 0
    for lines in _whole_lines(text.file, min(_READ_BYTES, most), most, (b"\n",)):
        # No read is larger than the limit. So only the first line, which may begin in an earlier read, can exceed it.
        if (lines.find(b"\n") + 1 or len(lines)) > most:
            place, limit = place_of(text, end), max_record_size.written
            problem = f"the line that begins at {place} is larger than max_record_size, which is {limit!r}."
            raise InputError(f"{text.path!r}: {problem} {_RAISE}")
        end += len(lines)
        yield lines, end


def _whole_lines(file: IO[bytes], size: int, most: int, breaks: Sequence[bytes]) -> Iterator[bytes]:
    """
    Yield some complete lines at a time. Only the last line of the file and a line larger than ``most`` may lack an end.

    :param size: bytes of a read.
    :param most: limit of a line.
    :param breaks: bytes that end a line.
    """
    parts: list[bytes] = []
    while block := file.read(size):
        cut = max(map(block.rfind, breaks)) + 1
        if not cut and sum(map(len, parts)) <= most:
            parts.append(block)
            continue
        cut = cut or len(block)
        yield b"".join((*parts, memoryview(block)[:cut]))
        parts = [block[cut:]]
    if any(parts):
        yield b"".join(parts)


_RAISE = "Set a larger max_record_size if your records are that large."


def _too_large(text: OpenText, position: int, max_record_size: RecordLimit, opened_at: int | None) -> InputError:
    place = place_of(text, position)
    problem = f"the record that begins at {place} is larger than max_record_size, which is {max_record_size.written!r}."
    if opened_at is not None:
        quote = place_of(text, opened_at)
        problem += f" It is inside a quoted field, opened at {quote}: its closing quote may be missing."
    return InputError(f"{text.path!r}: {problem} {_RAISE}")


def place_of(text: OpenText, position: int) -> str:
    """Return the line of a byte, and its position if the file can be cut, as text for an error."""
    line = f"line {line_at(text, position)}"
    return line if text.is_whole else f"{line} (byte {position})"


def line_at(text: OpenText, position: int, count: Callable[[bytes, bytes], int] = breaks_in) -> int:
    """
    Return the number of the line in which a byte is.

    The file is read again up to this byte, since counting lines while reading would take too long.

    :param count: counts the line breaks in a block, from the block and the last byte before it.
    """
    with text.again() as again:
        left = position - (again.position or 0)
        breaks, last = 0, b""
        while left and (
            block := again.file.read(min(left, BLOCK_BYTES))[:left]
        ):  # a recoded file may return more than asked for
            left -= len(block)
            breaks += count(block, last)
            last = block[-1:]
    return breaks + 1


def add_pieces(
    cut: TableCut, file: int, pieces: Iterable[tuple[int, int, int]], lines: Sequence[int], *, is_whole: bool
) -> None:
    """
    Add the mini-batches of one file.

    :param pieces: begin, end and number of records of each mini-batch.
    :param lines: number of the line in which each begins.
    :param is_whole: whether they become a single mini-batch, since the file cannot be cut.
    """
    if is_whole:
        items = size = 0
        for begin, end, records in pieces:
            items, size = items + records, size + end - begin
        if items:
            cut.add_piece(file, items=items, size_bytes=size)
            cut.close_mini_batch()
        return
    row = 1
    for (begin, end, records), line in zip(pieces, lines, strict=False):
        cut.add_piece(file, items=records, size_bytes=end - begin, begin=begin, end=end, row=row, line=line)
        cut.close_mini_batch()
        row += records
