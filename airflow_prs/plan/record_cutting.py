"""Cutting records into mini-batches while they are found; nothing here reads a file."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class RecordCutter:
    """
    Cuts one file's records into mini-batches while they are found, keeping no more than the cuts.

    :param size: bytes or records of a mini-batch; a record that is larger alone is a mini-batch of its own.
    :param is_bytes: whether size is in bytes.
    """

    def __init__(self, size: int, *, is_bytes: bool) -> None:
        self._size = size
        self._is_bytes = is_bytes
        self._begins = array("q")
        self._numbers = array("q")
        self._seen = 0
        self._last = 0

    def feed(self, starts: npt.NDArray[np.int64]) -> None:
        """
        Take the next records.

        :param starts: first byte of each.
        """
        if not len(starts):
            return
        if not self._begins:
            self._open(starts[0], 0)
        if self._is_bytes:
            self._cut_by_bytes(starts)
        else:
            self._cut_by_records(starts)
        self._seen += len(starts)
        self._last = int(starts[-1])

    def finish(self, end: int) -> list[tuple[int, int, int]]:
        """
        Cut what is left.

        :param end: one past the last byte.
        :return: begin, end and number of records of each mini-batch.
        """
        import numpy as np

        if self._begins and self._is_bytes:
            self._cut_by_bytes(np.array([end]))
        if self._begins and self._begins[-1] == end:
            self._begins.pop()
            self._numbers.pop()
        ends = [*self._begins[1:], end]
        numbers = [*self._numbers[1:], self._seen]
        return [
            (begin, stop, next_number - number)
            for begin, stop, number, next_number in zip(self._begins, ends, self._numbers, numbers, strict=False)
        ]

    def _cut_by_records(self, starts: npt.NDArray[np.int64]) -> None:
        first = max(self._size, -(-self._seen // self._size) * self._size)
        for number in range(first, self._seen + len(starts), self._size):
            self._open(starts[number - self._seen], number)

    def _cut_by_bytes(self, starts: npt.NDArray[np.int64]) -> None:
        """Begin the next mini-batch at the last record that starts within reach of the one that is open."""
        while True:
            begin = self._begins[-1]
            beyond = int(starts.searchsorted(begin + self._size, "right"))
            if beyond == len(starts):
                return
            within = int(starts[beyond - 1]) if beyond else self._last
            if within > begin:
                self._open(within, self._seen + beyond - 1)
            else:
                self._open(starts[beyond], self._seen + beyond)

    def _open(self, begin: int | np.int64, number: int) -> None:
        self._begins.append(int(begin))
        self._numbers.append(number)
