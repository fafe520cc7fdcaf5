"""Open input files. An object is read by ranges, and each answer is of the version that was listed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from airflow_prs.ahead import map_ahead
from airflow_prs.errors import InputChangedError, StorageError
from airflow_prs.object_storage.addresses import Address, parse_address
from airflow_prs.object_storage.connecting import connect_to
from airflow_prs.object_storage.failures import storage_errors

FIRST_BYTES = 1024 * 1024
"""Size of the beginning of a file that is fetched while other files are read."""

_LEAST_BYTES = 64 * 1024
"""Size of the smallest range; nearly all footers are smaller."""

_BLOCK_BYTES = 8 * 1024 * 1024
_GROWTH = 8
_BLOCKS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class InputFile:
    """
    A file of an input.

    :param path: its path or address.
    :param open: opens it for reading; can be called again.
    """

    path: str
    open: Callable[[], BinaryIO]


class ObjectFile(io.RawIOBase):
    """
    An object, as a file that is open for reading.

    Ranges grow while one is read after the other. Then they are fetched ahead in threads, until the file is closed or
    read elsewhere.

    :param path: its address.
    :param size: its size in bytes.
    :param etag: its ETag.
    :param begin: the first bytes, which were fetched already.
    """

    def __init__(self, path: str, size: int, etag: str, begin: bytes = b"") -> None:
        self._address, self._size, self._etag = parse_address(path), size, etag
        self._position = 0
        self._block_begin, self._block = 0, memoryview(begin)
        self._range_bytes = max(len(begin), _LEAST_BYTES)
        self._ahead: Iterator[memoryview] | None = None

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
        """
        Return the next bytes, as many as asked for unless the file ends.

        :raises InputChangedError: if the object was replaced or removed since it was listed.
        :raises StorageError: if it cannot be read.
        """
        end = self._size if size is None or size < 0 else min(self._position + size, self._size)
        parts = []
        while self._position < end:
            if not self._block_begin <= self._position < self._block_begin + len(self._block):
                self._fetch(end)
            place = self._position - self._block_begin
            parts.append(self._block[place : place + end - self._position])
            self._position += len(parts[-1])
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into a buffer, and return their number."""
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
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
            if self._ahead is None and self._range_bytes == _BLOCK_BYTES:
                starts = range(begin, self._size, _BLOCK_BYTES)
                self._ahead = map_ahead(lambda start: self._get(start, _BLOCK_BYTES), starts, threads=_BLOCKS_AHEAD)
        else:
            self._stop()
        if self._ahead is not None:
            self._block_begin, self._block = begin, next(self._ahead)
            return
        wanted = max(end - begin, self._range_bytes)
        if begin + wanted > self._size:  # the end of a file is read backwards
            begin = max(0, min(begin, self._size - wanted))
        self._block_begin, self._block = begin, self._get(begin, wanted)

    def _stop(self) -> None:
        self._range_bytes = _LEAST_BYTES
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            cast("Any", ahead).close()

    def _get(self, begin: int, size: int) -> memoryview:
        return memoryview(fetch(self._address, begin, min(begin + size, self._size), self._etag))


def fetch(address: Address, begin: int, end: int, etag: str) -> bytes:
    """
    Return bytes of an object.

    :param begin: position of the first byte.
    :param end: one past the last byte; must not be beyond the end of the object.
    :raises InputChangedError: if the object does not have this ETag.
    :raises StorageError: if it cannot be read.
    """
    from obstore.exceptions import PreconditionError

    if begin == end:
        return b""
    try:
        with storage_errors(address.bucket):
            options: Any = {"range": (begin, end), "if_match": etag}
            data = bytes(connect_to(address.bucket).bulk.get(address.key, options=options).bytes())
    except (PreconditionError, FileNotFoundError) as error:
        how = "is gone" if isinstance(error, FileNotFoundError) else "changed"
        raise InputChangedError(
            f"{str(address)!r} {how} while plan was reading the input. Run plan again when nothing writes to the input."
        ) from error
    if len(data) != end - begin:
        raise StorageError(f"{address.bucket} returned {len(data)} bytes for bytes {begin} to {end} of {address.key!r}")
    return data
