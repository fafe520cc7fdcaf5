"""A stretch of a file, which reads like a file of its own."""

from __future__ import annotations

import io
import os
from typing import Any

from .load_errors import LoadError, name_piece  # noqa: TID252 - this package has another name in a worker process


class Stretch(io.RawIOBase):
    """
    The bytes between two positions of a file. Parsers read it in blocks, so no copy of all bytes is made.

    :param path: the file.
    :param begin: position of the first byte.
    :param end: one past the last byte; None: the end of the file.
    :raises LoadError: if the file ends earlier.
    """

    def __init__(self, path: str, begin: int, end: int | None) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115 - close() closes it
        size = os.fstat(self._file.fileno()).st_size
        if end is not None and size < end:
            self.close()
            raise LoadError(f"{name_piece(path, begin, end, None)}: the file ends at byte {max(begin, size)}")
        self._begin = begin
        self._end = max(begin, size) if end is None else end
        self.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the stretch, and return it."""
        start = {os.SEEK_SET: self._begin, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}[whence]
        return self._file.seek(start + offset) - self._begin

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes, and return their number."""
        return self._file.readinto(memoryview(buffer)[: self._rest()])

    def readall(self) -> bytes:
        """Return the bytes from here to the end of the stretch."""
        return self._file.read(self._rest())

    def _rest(self) -> int:
        return max(0, self._end - self._file.tell())
