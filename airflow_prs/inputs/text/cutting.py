"""Cut records into mini-batches while they are found. Nothing here reads a file."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_prs.inputs.text.scanning import Positions


class RecordCutter:
    """
    Cuts one file's records into mini-batches while they are found. It holds only the cuts.

    :param size: bytes or records of a mini-batch; a record that is larger is a mini-batch of its own.
    :param is_bytes: whether size is in bytes.
    """

    def __init__(self, size: int, *, is_bytes: bool) -> None:
        self._size = size
        self._is_bytes = is_bytes
        self._begins = array("q")
        self._numbers = array("q")
        self._seen = 0
        self._last = 0

    def feed(self, starts: Sequence[int] | Positions) -> None:
        """
        Add the next records.

        :param starts: position of the first byte of each record.
        """
        if not len(starts):
            return
        if not self._begins:
            self._open(int(starts[0]), 0)
        if self._is_bytes:
            self._cut_by_bytes(starts)
        else:
            self._cut_by_records(starts)
        self._seen += len(starts)
        self._last = int(starts[-1])

    def finish(self, end: int) -> list[tuple[int, int, int]]:
        """
        Return begin, end and number of records of each mini-batch.

        :param end: position after the last byte of the file.
        """
        if self._begins and self._is_bytes:
            self._cut_by_bytes([end])
        if self._begins and self._begins[-1] == end:
            self._begins.pop()
            self._numbers.pop()
        ends = [*self._begins[1:], end]
        numbers = [*self._numbers[1:], self._seen]
        return [
            (begin, stop, next_number - number)
            for begin, stop, number, next_number in zip(self._begins, ends, self._numbers, numbers, strict=False)
        ]

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
