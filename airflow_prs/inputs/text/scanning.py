"""
Find where the records of delimited text start.

The rules are those of pandas' C parser, which reads the records later. A quote opens a quoted field only at the start
of a field. A doubled quote does not close the field, and line breaks inside belong to it. A record ends at LF, CR LF or
CR. A line with only white space, or with only a comment, is not a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Flags = npt.NDArray[np.bool_]
    Positions = npt.NDArray[np.int64]

_QUOTE, _LF, _CR, _SPACE, _TAB = b'"\n\r \t'
_NOWHERE = -2


class Scanner:
    """
    Finds the records of a file, some lines at a time.

    :param separator: character between two fields.
    :param comment: character that begins a comment; None: there are no comments.
    :ivar position: position of the next byte in the file.
    :ivar is_quoted: whether the lines so far ended inside a quoted field.
    :ivar opened_at: position of the quote that opened that field.
    """

    def __init__(self, separator: str, comment: str | None = None, position: int = 0) -> None:
        self._breaks = (ord(separator), _LF, _CR)
        self._blanks = tuple({_SPACE, _TAB} - {ord(separator)})
        self._comment = ord(comment) if comment else -1
        self.position = self.opened_at = position
        self.is_quoted = False

    def scan(self, lines: bytes) -> tuple[Positions, bool]:
        """
        Return the records that start in the next lines.

        :param lines: some lines; the last one ends with a line break, unless the file ends there.
        :return: position of the first byte of each record, and whether the lines are plain: without comments, without
            white space at the start of a line, and only with quotes that open and close fields or are doubled.
        """
        import numpy as np

        text = np.frombuffer(lines, np.uint8)
        before = np.array([] if self.is_quoted else [-1], np.int64)
        line_ends, is_plain = self._line_ends(lines, text)
        edges = np.concatenate((before, line_ends, [len(lines)]))
        begins, ends = edges[:-1] + 1, edges[1:]
        is_filled = begins < ends
        begins, ends = begins[is_filled], ends[is_filled]
        first = text[begins]
        is_record = first != self._comment
        doubtful = np.flatnonzero(_is_one_of(first, self._blanks))
        if len(doubtful):
            solid = np.append(np.flatnonzero(~_is_one_of(text, self._blanks)), len(text))
            is_record[doubtful] &= solid[solid.searchsorted(begins[doubtful])] < ends[doubtful]
        starts = begins[is_record] + self.position
        self.position += len(lines)
        return starts, is_plain and not len(doubtful)

    def _line_ends(self, lines: bytes, text: Bytes) -> tuple[Positions, bool]:
        """
        Return the line breaks outside of quoted fields, and whether all quotes and comments are plain.

        A byte is quoted if the number of quotes up to it is odd. That is right if each quote that opens a field by this
        count is at the start of a field or doubles the quote before it, and no comment has a quote.
        """
        import numpy as np

        sought = [_LF, *(byte for byte in (_CR, _QUOTE, self._comment) if byte >= 0 and byte in lines)]
        marks = np.flatnonzero(_is_one_of(text, sought))
        if not self.is_quoted and not {_QUOTE, self._comment}.intersection(sought):
            return marks, True
        kinds = text[marks]
        is_quote = kinds == _QUOTE
        is_quoted = ((np.cumsum(is_quote, dtype=np.int32) + self.is_quoted) & 1).astype(bool)
        opening = marks.compress(is_quote & is_quoted)
        may_open = self._may_open(text, opening)
        is_comment = (kinds == self._comment) & ~is_quoted
        if not (may_open | (text[opening - 1] == _QUOTE)).all() or (is_comment[:-1] & is_quote[1:]).any():
            return self._follow(text, marks), False
        if len(marks):
            self.is_quoted = bool(is_quoted[-1])
        if len(opened := opening.compress(may_open)):
            self.opened_at = self.position + int(opened[-1])
        return marks.compress(~(is_quote | is_quoted | is_comment)), not is_comment.any()

    def _follow(self, text: Bytes, marks: Positions) -> Positions:
        """Return the line breaks outside of quoted fields, going from mark to mark: slower, but right for any text."""
        import numpy as np

        ends = []
        is_quoted, is_comment, closed_at = self.is_quoted, False, _NOWHERE
        may_open = self._may_open(text, marks)
        for at, kind, opens in zip(marks.tolist(), text[marks].tolist(), may_open.tolist(), strict=True):
            if is_quoted:
                if kind == _QUOTE:
                    is_quoted, closed_at = False, at
            elif kind == _QUOTE:
                if at == closed_at + 1:
                    is_quoted = True
                elif opens and not is_comment:
                    is_quoted, self.opened_at = True, self.position + at
            elif kind == self._comment:
                is_comment |= at != closed_at + 1
            else:
                is_comment = False
                ends.append(at)
        self.is_quoted = is_quoted
        return np.array(ends, np.int64)

    def _may_open(self, text: Bytes, positions: Positions) -> Flags:
        """Return for each position whether it is the start of a field."""
        may_open: Flags = (positions == 0) | _is_one_of(text[positions - 1], self._breaks)
        return may_open


def _is_one_of(text: Bytes, allowed: Sequence[int]) -> Flags:
    found: Flags = text == allowed[0]
    for byte in allowed[1:]:
        found |= text == byte
    return found
