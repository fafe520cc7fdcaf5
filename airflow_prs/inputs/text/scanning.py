"""
Finding the records of delimited text, block by block.

The rules are those of pandas' C parser, which reads the records later: a quote opens a quoted field only at the start
of a field, a doubled quote stays inside it, line breaks inside belong to the field; a record ends at LF, CR LF or CR;
a line of nothing but white space is no record.

Most blocks are plain: no comment, no quote that is mere text, no line that begins with white space. They are read with
a few steps for 64 bytes at once. The others are cut into pieces, and those that are not plain either are gone through
from mark to mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from airflow_prs.inputs.text.bits import WORD, Marker, Starts, after, between, last_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_prs.inputs.text.bits import Bits

BLOCK_BYTES = 512 * 1024
"""What the caches of a processor hold together with the marks made of it."""

_PIECE_BYTES = 256 * 1024
"""Of a block that is not plain: a lone odd quote should not hold up much, nor pandas read too many pieces."""

_QUOTE, _LF, _CR, _SPACE, _TAB = b'"\n\r \t'
_NOWHERE = -2


class UnclosedQuoteError(ValueError):
    """A quoted field is still open at the end of a file."""


@dataclass(frozen=True, slots=True)
class Block:
    """
    A part of a file.

    :param starts: first bytes of the records that show in it; one may be before it, as a blank line went on.
    :param is_plain: whether there is nothing in it but simple fields and those that are quoted as a whole.
    """

    text: bytes
    starts: Starts
    is_plain: bool


def scan_records(
    file: IO[bytes],
    separator: int,
    *,
    position: int = 0,
    comment: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Block]:
    """
    Yield a file's blocks, from where it stands.

    A record that ends where a block ends may show with the next one.

    :param separator: byte between two fields.
    :param position: number of the first byte.
    :param comment: byte after which the rest of a line says nothing.
    :raises UnclosedQuoteError: at the end of the file, if a quoted field is not closed.
    """
    scanner = _Scanner(separator, position, comment)
    while block := file.read(block_bytes):
        yield from scanner.scan(block)
    if scanner.is_quoted:
        raise UnclosedQuoteError


def find_open_quote(parts: Iterable[bytes], separator: int, comment: int | None) -> int | None:
    """
    Find the quote that opened the field in which records end: its number of bytes from their begin.

    :param parts: records that follow each other.
    :return: None: they do not end in a quoted field.
    """
    import numpy as np

    scanner = _Scanner(separator, 0, comment)
    for part in parts:
        for begin in range(0, len(part), _PIECE_BYTES):
            scanner.scan_any(np.frombuffer(part, np.uint8)[begin : begin + _PIECE_BYTES])
    return scanner.opened_at if scanner.is_quoted else None


class _Scanner:
    """
    What has to be known at the end of one block to read the next.

    :param separator: byte between two fields.
    :param position: first byte of the next block.
    :param comment: byte that begins a comment.
    :ivar is_quoted: whether the block ended inside a quoted field.
    :ivar opened_at: position of the last quote that opened a field; known where no block was plain.
    """

    def __init__(self, separator: int, position: int, comment: int | None) -> None:
        self._separator = separator
        self._breaks = (separator, _LF, _CR)
        self._blanks = tuple({_SPACE, _TAB} - {separator})
        self._position = position
        self._comment = comment
        self._marker = Marker()
        self.is_quoted = False
        self.opened_at = position
        self._last_byte = _LF
        self._has_just_closed = False
        self._is_in_comment = False
        self._line_start = position
        self._is_line_counted = False
        self._is_line_comment = False

    def scan(self, block: bytes) -> Iterator[Block]:
        """Find the records that show in a block; if it is not plain, in pieces of it, of which most may be."""
        import numpy as np

        text = np.frombuffer(block, np.uint8)
        plain = None if self._has_comment(block) else self._scan_plain(block, text)
        if plain is not None:
            yield Block(block, plain, is_plain=True)
        elif len(block) > _PIECE_BYTES:
            for begin in range(0, len(block), _PIECE_BYTES):
                yield from self.scan(block[begin : begin + _PIECE_BYTES])
        else:
            yield Block(block, Starts.of(self.scan_any(text)), is_plain=False)

    def _has_comment(self, block: bytes) -> bool:
        return self._comment is not None and (self._is_in_comment or self._comment in block)

    def _scan_plain(self, block: bytes, text: npt.NDArray[np.uint8]) -> Starts | None:
        """Read a block with bits; None, and nothing is changed: it is not plain."""
        if not self._is_line_counted and self._line_start < self._position:
            return None
        mark = self._marker
        ends = mark.equal(text, _LF)
        if _CR in block:
            ends |= mark.equal(text, _CR)
        is_quoted, has_just_closed, quotes = self.is_quoted, False, None
        if is_quoted or _QUOTE in block:
            quotes = mark.equal(text, _QUOTE)
            outside = self._outside(quotes, ends | mark.equal(text, self._separator) | quotes)
            if outside is None:
                return None
            ends &= outside
            last = len(text) - 1
            is_quoted = not int(outside[last // WORD]) >> last % WORD & 1
            has_just_closed = not is_quoted and int(text[-1]) == _QUOTE
        starts = after(ends, first=not self._is_line_counted) & ~ends
        starts[-1] &= starts.dtype.type(2 ** ((len(text) - 1) % WORD + 1) - 1)
        unquoted = starts if quotes is None else starts & ~quotes  # often none, and a look at all bytes is saved
        if unquoted.any() and (unquoted & mark.up_to(text, _SPACE)).any():
            return None
        self.is_quoted, self._has_just_closed = is_quoted, has_just_closed
        self._go_on(text, last_of(ends))
        return Starts(starts, self._position - len(text))

    def _outside(self, quotes: Bits, marks: Bits) -> Bits | None:
        """
        Mark the bytes of a block that are in no quoted field; None: some quote is mere text.

        :param marks: what a quote may open a field after, or double.
        """
        outside = between(quotes, is_open=not self.is_quoted)
        may_open = after(marks, first=self._has_just_closed or self._last_byte in self._breaks)
        return None if (quotes & ~(outside | may_open)).any() else outside

    def _go_on(self, text: npt.NDArray[np.uint8], last_end: int | None) -> None:
        """Keep what the next block needs to know of a plain one."""
        if last_end is None:
            self._is_line_counted = True
        else:
            self._line_start = self._position + last_end + 1
            self._is_line_counted = last_end + 1 < len(text)
        self._is_line_comment = False
        self._last_byte = int(text[-1])
        self._position += len(text)

    def scan_any(self, text: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Read a block, whatever is in it."""
        import numpy as np

        ends = np.flatnonzero((text == _LF) | (text == _CR))
        quotes = np.flatnonzero(text == _QUOTE)
        hashes = np.flatnonzero(text == self._comment) if self._comment is not None else quotes[:0]
        if len(hashes) or self._is_in_comment:
            quotes = self._outside_comments(text, quotes, hashes, ends)
        elif len(quotes) or self.is_quoted:
            quotes = self._structural(text, quotes)
        if len(quotes) or self.is_quoted:
            self._note_opening(quotes)
            is_inside = (quotes.searchsorted(ends) + self.is_quoted) & 1
            ends = ends[is_inside == 0]
            self.is_quoted = bool((len(quotes) + self.is_quoted) & 1)
        self._has_just_closed = not self.is_quoted and len(quotes) > 0 and quotes[-1] == len(text) - 1
        starts = self._records(text, ends)
        self._last_byte = int(text[-1])
        return starts

    def _note_opening(self, quotes: npt.NDArray[np.int64]) -> None:
        """
        Keep where the last field was opened.

        :param quotes: none of which is mere text; one that doubles the one before opens nothing.
        """
        import numpy as np

        previous = np.concatenate(([-1 if self._has_just_closed else _NOWHERE], quotes[:-1]))
        opening = slice(int(self.is_quoted), None, 2)
        opened = quotes[opening][quotes[opening] - previous[opening] > 1]
        if len(opened):
            self.opened_at = self._position + int(opened[-1])

    def _records(self, text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the starts of the lines that hold something; the last line may go on in the next block."""
        import numpy as np

        begins = np.concatenate(([0], ends + 1))
        is_record = self._holds_something(text, begins, np.append(ends, len(text)))
        if self._comment is not None:
            is_record &= ~self._are_comments(text, begins)
        starts = begins + self._position
        starts[0] = self._line_start
        is_open_counted = bool(is_record[-1]) or (len(ends) == 0 and self._is_line_counted)
        if self._is_line_counted:
            is_record[0] = False
        self._line_start = int(starts[-1])
        self._is_line_counted = is_open_counted
        self._position += len(text)
        return starts[is_record]

    def _are_comments(self, text: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each line begins with a comment; the first one may have begun in an earlier block."""
        import numpy as np

        are_comments = np.zeros(len(begins), np.bool_)
        shown = begins < len(text)
        are_comments[shown] = text[begins[shown]] == self._comment
        if self._line_start < self._position:
            are_comments[0] = self._is_line_comment
        self._is_line_comment = bool(are_comments[-1])
        return are_comments

    def _holds_something(
        self, text: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether each line holds more than white space; only those that begin with some are looked through."""
        import numpy as np

        is_record = ends > begins
        doubtful = np.flatnonzero(is_record)
        doubtful = doubtful[_is_one_of(text[begins[doubtful]], self._blanks)]
        if len(doubtful):
            solid = np.flatnonzero(~_is_one_of(text, self._blanks))
            solid = np.append(solid, len(text))
            is_record[doubtful] = solid[solid.searchsorted(begins[doubtful])] < ends[doubtful]
        return is_record

    def _outside_comments(
        self,
        text: npt.NDArray[np.uint8],
        quotes: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        """
        Go from mark to mark, and leave out the quotes in comments and those that are mere text.

        :param hashes: what begins a comment, unless it is inside a quoted field or right after its end.
        """
        import numpy as np

        marks = np.sort(np.concatenate((quotes, hashes)))
        before = np.where(marks > 0, text[marks - 1], self._last_byte)
        next_ends = np.append(ends, len(text))[ends.searchsorted(marks)]
        structural = []
        is_quoted = self.is_quoted
        closed_at = -1 if self._has_just_closed else _NOWHERE
        resume = (int(ends[0]) if len(ends) else len(text)) if self._is_in_comment else 0
        for position, kind, opens, line_end in zip(
            marks.tolist(),
            (text[marks] == _QUOTE).tolist(),
            _is_one_of(before, self._breaks).tolist(),
            next_ends.tolist(),
            strict=True,
        ):
            if position < resume:
                continue
            if not kind:
                if not is_quoted and position != closed_at + 1:
                    resume = line_end
                continue
            if is_quoted:
                is_quoted, closed_at = False, position
            elif opens or position == closed_at + 1:
                is_quoted = True
            else:
                continue
            structural.append(position)
        self._is_in_comment = not is_quoted and resume == len(text)
        return np.array(structural, np.int64)

    def _structural(self, text: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """
        Leave out the quotes that are mere text, such as the one in ``5" pipe``.

        If every second quote stands where one may open a field, or doubles the one before, none is mere text.
        """
        import numpy as np

        if not len(quotes):
            return quotes
        before = text[quotes - 1]
        if quotes[0] == 0:
            before[0] = self._last_byte
        may_open = _is_one_of(before, self._breaks)
        previous = np.concatenate(([-1 if self._has_just_closed else _NOWHERE], quotes[:-1]))
        doubles = quotes - previous == 1
        opening = slice(int(self.is_quoted), None, 2)
        if np.all(may_open[opening] | doubles[opening]):
            return quotes
        return np.array(self._follow(quotes.tolist(), may_open.tolist()), np.int64)

    def _follow(self, quotes: list[int], may_open: list[bool]) -> list[int]:
        """Go from quote to quote: slower, but right for any text."""
        structural = []
        is_quoted = self.is_quoted
        closed_at = -1 if self._has_just_closed else _NOWHERE
        for position, opens in zip(quotes, may_open, strict=True):
            if is_quoted:
                is_quoted, closed_at = False, position
            elif opens or position == closed_at + 1:
                is_quoted = True
            else:
                continue
            structural.append(position)
        return structural


def _is_one_of(text: npt.NDArray[np.uint8], allowed: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    import numpy as np

    found = np.zeros(len(text), np.bool_)
    for byte in allowed:
        found |= text == byte
    return found
