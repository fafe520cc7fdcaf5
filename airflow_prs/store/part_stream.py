"""A stream whose parts are sent by threads while it is written."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PART_BYTES: Final = 16 << 20
"""Of the first 1,000 parts. Of the next ones it is twice that, and so on: 10,000 parts hold 880 GiB."""

_IN_FLIGHT: Final = 3


class PartStream(io.BufferedIOBase):
    """
    What is written is sent in parts, a few at once; there is at least one part.

    :param send: sends a part, by its number from 0, and returns what the storage calls it.
    """

    def __init__(self, send: Callable[[int, bytes], str]) -> None:
        super().__init__()
        self._send = send
        self._buffer = bytearray()
        self._size = 0
        self._count = 0
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="upload")
        self._sending: deque[Future[str]] = deque()
        self._sent: list[str] = []

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def write(self, buffer: ReadableBuffer, /) -> int:
        """
        Write bytes, and wait while enough parts are being sent.

        :raises OSError: if a part could not be sent.
        """
        if self.closed:
            raise ValueError("write to closed file")
        data = memoryview(buffer).cast("B")
        for start in range(0, len(data), PART_BYTES):
            self._buffer += data[start : start + PART_BYTES]
            if len(self._buffer) >= PART_BYTES * (1 + self._count // 1000):
                self._send_buffer()
        self._size += len(data)
        return len(data)

    def finish(self) -> list[str]:
        """Send what is left, wait for all parts, and return what the storage calls them."""
        if self._buffer or not self._count:
            self._send_buffer()
        while self._sending:
            self._wait()
        return self._sent

    def stop(self) -> None:
        """Send no further part, and wait for those that are being sent."""
        self._buffer.clear()
        self._pool.shutdown(cancel_futures=True)
        self.close()

    def _send_buffer(self) -> None:
        if len(self._sending) >= _IN_FLIGHT:
            self._wait()
        self._sending.append(self._pool.submit(self._send, self._count, bytes(self._buffer)))
        self._buffer.clear()
        self._count += 1

    def _wait(self) -> None:
        self._sent.append(self._sending.popleft().result())
