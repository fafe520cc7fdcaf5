"""Cut records into mini-batches while they are found. Nothing here reads a file."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from airflow_prs.worker.reading.lines import breaks_in

if TYPE_CHECKING:
    from airflow_prs.inputs.text.scanning import Positions


class RecordCutter:
    """
    Cuts one file's records into mini-batches while they are found. It holds only the cuts.

    :param size: bytes or records of a mini-batch; a record that is larger is a mini-batch of its own.
    :param is_bytes: whether size is in bytes.
    :param count: counts the line breaks in a block, from the block and the last byte before it.

    ``lines`` has the line in which each mini-batch begins.
    """

    def __init__(self, size: int, *, is_bytes: bool, count: Callable[[bytes, bytes], int] = breaks_in) -> None:
        self._size = size
        self._is_bytes = is_bytes
        self._begins = array("q")
        self._numbers = array("q")
        self._seen = 0
        self._last = 0
        self._count = count
        self.lines = array("q")
        self._line = self._last_line = 1
        self._before = b""

    def feed(self, starts: Sequence[int] | Positions, text: bytes = b"", end: int = 0) -> None:
        """
        Add the next records.

        :param starts: position of the first byte of each record.
        :param text: the bytes of the file since those of the call before, up to ``end``.
        """
        known = len(self._begins)
        if len(starts):
            self._add(starts)
        if text:
            self._count_lines(text, end - len(text), self._begins[known:])

    def _count_lines(self, text: bytes, begin: int, cuts: array[int]) -> None:
        """Find the lines of new cuts. One may be at the last record of an earlier text, whose line is kept for that."""
        at, line, before = begin, self._line, self._before
        for position in (*cuts, self._last, begin + len(text)):
            if position < begin:
                if cuts and position == cuts[0]:
                    self.lines.append(self._last_line)
                continue
            block = text[at - begin : position - begin]
            line += self._count(block, before)
            at, before = position, block[-1:] or before
            if len(self.lines) < len(self._begins):
                self.lines.append(line)
            if position == self._last:
                self._last_line = line
        self._line, self._before = line, before

    def _add(self, starts: Sequence[int] | Positions) -> None:
        if not self._begins:
            self._open(int(starts[0]), 0)
        if self._is_bytes:
            self._cut_by_bytes(starts)
        else:
            self._cut_by_records(starts)
        self._seen += len(starts)
        self._last = int(starts[-1])

    def finish(self, end: int) -> Iterator[tuple[int, int, int]]:
        """
        Return an iterator of begin, end and number of records of each mini-batch.

        :param end: position after the last byte of the file.
        """
        if self._begins and self._is_bytes:
            self._cut_by_bytes([end])
        self.lines.extend([self._last_line] * (len(self._begins) - len(self.lines)))
        if self._begins and self._begins[-1] == end:
            self._begins.pop()
            self._numbers.pop()
        # A list of them would need more memory than all other columns of the plan.
        ends, numbers = chain(islice(self._begins, 1, None), [end]), chain(islice(self._numbers, 1, None), [self._seen])
        return (
            (begin, stop, next_number - number)
            for begin, stop, number, next_number in zip(self._begins, ends, self._numbers, numbers, strict=False)
        )

    def _cut_by_records(self, starts: Sequence[int] | Positions) -> None:
        first = max(self._size, -(-self._seen // self._size) * self._size)
        for number in range(first - self._seen, len(starts), self._size):
            self._open(int(starts[number]), number + self._seen)

    def _cut_by_bytes(self, starts: Sequence[int] | Positions) -> None:
        """Open each next mini-batch at the last record that starts within ``size`` bytes of the open one."""
        while (beyond := bisect_right(starts, self._begins[-1] + self._size)) < len(starts):
            within = int(starts[beyond - 1]) if beyond else self._last
            if within > self._begins[-1]:
                self._open(within, self._seen + beyond - 1)
            else:
                self._open(int(starts[beyond]), self._seen + beyond)

    def _open(self, begin: int, number: int) -> None:
        self._begins.append(begin)
        self._numbers.append(number)
