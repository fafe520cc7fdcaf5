"""
Logs: folders of numbered records, of which each is created once and never changes.

Record n + 1 is created by somebody who has read record n. If two try, the store lets one of them succeed; the other
reads what is there, and decides again. Readers ask for the next number, and usually there is none.
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeVar

from airflow_prs.ahead import map_ahead
from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.store.port import Store

_T = TypeVar("_T")

_CRC_BYTES: Final = 9
"""Eight hexadecimal digits and a space."""

LAG_S: Final = 90.0
"""How long storage may lag behind: longer than the attribute cache of NFS by default."""


@dataclass(frozen=True, slots=True)
class Record:
    """
    A record of a log.

    :param number: its position, from 0.
    :param header: a line of JSON, without the line break.
    :param payload: what follows that line.
    """

    number: int
    header: bytes
    payload: bytes = b""

    @property
    def payload_offset(self) -> int:
        """Where the payload begins in the record's object."""
        return _CRC_BYTES + len(self.header) + 1


def pack(header: bytes, payload: Iterable[bytes | memoryview]) -> bytes:
    """
    Return the content of an object: a checksum, a header and a payload.

    :param header: JSON without a line break.
    :param payload: in parts, so that a large one is copied once.
    """
    parts = [header, b"\n", *payload]
    crc = functools.reduce(lambda crc, part: zlib.crc32(part, crc), parts, 0)
    return b"".join([b"%08x " % crc, *parts])


def unpack(data: bytes, key: str) -> tuple[bytes, bytes]:
    """
    Return the header and the payload of an object.

    :param data: its content, from pack().
    :param key: its key, for the error.
    :raises DamagedError: if it is damaged.
    """
    if data[:_CRC_BYTES] != b"%08x " % zlib.crc32(memoryview(data)[_CRC_BYTES:]):
        raise DamagedError(f"{key} is damaged. Clear the plan task to start over.")
    header_end = data.index(b"\n")
    return data[_CRC_BYTES:header_end], data[header_end + 1 :]


def wait_for(look: Callable[[], _T], sleep: Callable[[float], None] = time.sleep) -> _T:
    """
    Wait until storage that lags behind shows something, for LAG_S at most.

    :param look: looks for it; what it returns is true once it has been seen.
    :param sleep: waits for some seconds.
    :return: what the last look has returned.
    """
    waited_s, pause_s = 0.0, 0.05
    while not (seen := look()) and waited_s < LAG_S:
        sleep(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, 2.0)
    return seen


def unseen(key: str) -> RunFolderError:
    """Return the error for a key that exists, and that wait_for() could not see."""
    return RunFolderError(
        f"{key} exists, but cannot be seen from this machine after {LAG_S:g} seconds. On NFS, mount with "
        "lookupcache=none or with a small actimeo."
    )


class Log:
    """
    A log in a store.

    :param prefix: prefix of the keys of its records; it ends with `/`.
    :param sleep: waits for storage that lags behind, in seconds.
    """

    def __init__(self, store: Store, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._store = store
        self._prefix = prefix

    def append(self, number: int, header: bytes, payload: bytes = b"") -> bool:
        """
        Create a record, durable on return.

        :param number: one more than that of the record which the caller read last.
        :param header: JSON without a line break.
        :return: False if there is another record of this number, which can be read by now. To repeat a call with the
            same bytes is safe.
        :raises RunFolderError: if that record cannot be seen here within 90 seconds.
        """
        if self._store.create(self.key(number), pack(header, [payload])):
            return True
        self._wait_for(number)
        return False

    def read(self, number: int) -> Record | None:
        """
        Return a record; None: it does not exist yet.

        :raises DamagedError: if it is damaged.
        """
        data = self._store.get(self.key(number))
        if data is None:
            return None
        return Record(number, *unpack(data, self.key(number)))

    def read_many(self, numbers: Sequence[int]) -> Iterator[Record]:
        """Yield records that are known to exist, in this order; several are read at a time where that is faster."""
        if self._store.together == 1:
            yield from map(self.read_written, numbers)
            return
        with closing(map_ahead(self.read_written, numbers, threads=self._store.together)) as records:
            yield from records

    def read_written(self, number: int) -> Record:
        """
        Return a record that is known to exist; what storage does not show yet is waited for.

        :raises DamagedError: if it is damaged, or cannot be seen within 90 seconds.
        """
        record = wait_for(lambda: self.read(number), self._sleep)
        if record is None:
            raise DamagedError(
                f"{self.key(number)} is missing, also after {LAG_S:g} seconds. Clear the plan task to start over."
            )
        return record

    def read_all(self, first: int = 0) -> Iterator[Record]:
        """
        Yield all records that exist, oldest first.

        :param first: number of the first one.
        :raises DamagedError: if one is damaged.
        """
        while (record := self.read(first)) is not None:
            yield record
            first += 1

    def read_last(self, after: int = -1, expected: int = 1) -> Record | None:
        """
        Return the last record; None: there is none after ``after``.

        It costs one request if one record is expected and there is none, and two if there are as many as expected or
        one less. Otherwise it costs a few more, logarithmic in the difference.

        :param after: number of a record that exists; -1: none is known.
        :param expected: how many records there may be after it, at least 1.
        """
        number, missing, step = after + expected, -1, 1
        while (record := self.read(number)) is None:
            if number == after + 1:
                return None
            missing, number, step = number, max(after + 1, number - step), 2 * step
        last, step = number, 1
        if missing < 0:
            while self._exists(last + step):
                last, step = last + step, 2 * step
            missing = last + step
        while missing - last > 1:
            middle = (last + missing) // 2
            if self._exists(middle):
                last = middle
            else:
                missing = middle
        return record if last == number else self.read(last)

    def key(self, number: int) -> str:
        """Return the key of a record."""
        return f"{self._prefix}{number:010d}"

    def _wait_for(self, number: int) -> None:
        """Wait until a record that exists can be seen: caches, such as those of NFS, may say that it is missing."""
        if not wait_for(lambda: self._exists(number), self._sleep):
            raise unseen(self.key(number))

    def _exists(self, number: int) -> bool:
        return self._store.stat(self.key(number)) is not None
