"""An object as a file that is open for reading, of which ranges are fetched."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from typing import Any

from airflow_prs.ahead import map_ahead

_LEAST_BYTES = 64 * 1024
"""Size of the smallest range; nearly all footers are smaller."""

_BLOCK_BYTES = 8 * 1024 * 1024
_GROWTH = 8


class RangeFile(io.RawIOBase):
    """
    An object, as a file that is open for reading.

    Ranges grow while one is read after the other. Then they may be fetched ahead in threads, until the file is closed
    or read elsewhere.

    :param size: its size in bytes.
    :param fetch: returns all bytes from a position to one before another; its errors are those of ``read``.
    :param begin: the first bytes, which were fetched already.
    :param ahead: how many ranges are fetched ahead. Close the file if there are any: it ends the threads.
    """

    def __init__(
        self, size: int, fetch: Callable[[int, int], bytes | memoryview], *, begin: bytes = b"", ahead: int = 0
    ) -> None:
        self._size, self._fetch_range, self._blocks_ahead = size, fetch, ahead
        self._position = 0
        self._block_begin, self._block = 0, memoryview(begin)
        self._range_bytes = max(len(begin), _LEAST_BYTES)
        self._ahead: Generator[memoryview] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position of the next byte, and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, as many as asked for unless the file ends."""
        end = self._size if size is None or size < 0 else min(self._position + size, self._size)
        begin, parts = self._position, []
        while self._position < end:
            if not self._block_begin <= self._position < self._block_begin + len(self._block):
                try:
                    self._fetch(end)
                except Exception:
                    self._position = begin
                    raise
            place = self._position - self._block_begin
            parts.append(self._block[place : place + end - self._position])
            self._position += len(parts[-1])
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into a buffer, and return their number."""
        into = memoryview(buffer).cast("B")
        data = self.read(len(into))
        into[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._stop()
        super().close()

    def _fetch(self, end: int) -> None:
        """
        Fetch a range with the next byte.

        :param end: one past the last byte that is asked for.
        """
        begin = self._position
        if begin == self._block_begin + len(self._block) and begin:
            self._range_bytes = min(self._range_bytes * _GROWTH, _BLOCK_BYTES)
            if self._blocks_ahead and self._ahead is None and self._range_bytes == _BLOCK_BYTES:
                starts = range(begin, self._size, _BLOCK_BYTES)
                self._ahead = map_ahead(self._get_block, starts, threads=self._blocks_ahead)
        else:
            self._stop()
        if self._ahead is not None:
            try:
                self._block_begin, self._block = begin, next(self._ahead)
            except Exception:
                # It yields nothing after an error; the next read begins anew.
                self._stop()
                raise
            return
        wanted = max(end - begin, self._range_bytes)
        if begin + wanted > self._size:  # the end of a file is read backwards
            begin = max(0, min(begin, self._size - wanted))
        self._block_begin, self._block = begin, self._get(begin, wanted)

    def _stop(self) -> None:
        self._range_bytes = _LEAST_BYTES
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            ahead.close()

    def _get_block(self, begin: int) -> memoryview:
        return self._get(begin, _BLOCK_BYTES)

    def _get(self, begin: int, size: int) -> memoryview:
        return memoryview(self._fetch_range(begin, min(begin + size, self._size)))
