"""Cutting records into mini-batches while they are found; nothing here reads a file."""

from __future__ import annotations

from array import array

from airflow_prs.inputs.text.bits import Starts

_SMALL_BYTES = 64 * 1024
"""In mini-batches below it, so many cuts are looked for that every position is worth knowing."""


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

    def feed(self, starts: Starts) -> None:
        """
        Take the next records.

        :param starts: first byte of each.
        """
        if not len(starts):
            return
        if not self._begins:
            self._open(starts.at(0), 0)
        if self._is_bytes:
            if self._size < _SMALL_BYTES:
                starts.positions()
            self._cut_by_bytes(starts)
        else:
            self._cut_by_records(starts)
        self._seen += len(starts)
        self._last = starts.at(len(starts) - 1)

    def finish(self, end: int) -> list[tuple[int, int, int]]:
        """
        Cut what is left.

        :param end: one past the last byte.
        :return: begin, end and number of records of each mini-batch.
        """
        if self._begins and self._is_bytes:
            self._cut_by_bytes(Starts.of([end]))
        if self._begins and self._begins[-1] == end:
            self._begins.pop()
            self._numbers.pop()
        ends = [*self._begins[1:], end]
        numbers = [*self._numbers[1:], self._seen]
        return [
            (begin, stop, next_number - number)
            for begin, stop, number, next_number in zip(self._begins, ends, self._numbers, numbers, strict=False)
        ]

    def _cut_by_records(self, starts: Starts) -> None:
        first = max(self._size, -(-self._seen // self._size) * self._size)
        numbers = range(first - self._seen, len(starts), self._size)
        for number, begin in zip(numbers, starts.at_each(numbers), strict=True):
            self._open(begin, number + self._seen)

    def _cut_by_bytes(self, starts: Starts) -> None:
        """Begin the next mini-batch at the last record that starts within reach of the one that is open."""
        while True:
            begin = self._begins[-1]
            beyond = starts.count_to(begin + self._size)
            if beyond == len(starts):
                return
            within = starts.at(beyond - 1) if beyond else self._last
            if within > begin:
                self._open(within, self._seen + beyond - 1)
            else:
                self._open(starts.at(beyond), self._seen + beyond)

    def _open(self, begin: int, number: int) -> None:
        self._begins.append(begin)
        self._numbers.append(number)
