"""Open input files, each in the version that was listed. Objects are read by ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from airflow_prs.errors import InputChangedError, StorageError
from airflow_prs.object_storage.addresses import Address, parse_address
from airflow_prs.object_storage.connecting import connect_to
from airflow_prs.object_storage.ranges import RangeFile
from airflow_prs.object_storage.requests import asking, is_changed
from airflow_prs.worker.reading.versions import find_change

FIRST_BYTES = 1024 * 1024
"""Size of the beginning of a file that is fetched while other files are read."""

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


def open_object(path: str, size: int, etag: str, begin: bytes = b"") -> BinaryIO:
    """
    Open an object for reading, which raises what ``fetch`` raises.

    :param path: its address.
    :param size: its size in bytes.
    :param etag: its ETag.
    :param begin: the first bytes, which were fetched already.
    """
    get = partial(fetch, parse_address(path), etag)
    return cast("BinaryIO", RangeFile(size, get, begin=begin, ahead=_BLOCKS_AHEAD))


def fetch(address: Address, etag: str, begin: int, end: int) -> bytes:
    """
    Return bytes of an object.

    :param begin: position of the first byte.
    :param end: one past the last byte; must not be beyond the end of the object.
    :raises InputChangedError: if the object does not have this ETag.
    :raises StorageError: if it cannot be read.
    """
    if begin == end:
        return b""
    options: Any = {"range": (begin, end), "if_match": etag}
    try:
        with asking(address.bucket, address.key):
            data = bytes(connect_to(address.bucket).bulk.get(address.key, options=options).bytes())
    except OSError as error:
        if not is_changed(error):
            raise
        is_gone = isinstance(error, FileNotFoundError)
        raise _changed(str(address), "is gone" if is_gone else "changed") from error
    if len(data) != end - begin:
        raise StorageError(f"{address.bucket} returned {len(data)} bytes for bytes {begin} to {end} of {address.key!r}")
    return data


def require_unchanged(path: str, version: str) -> None:
    """
    Check that a local file has not changed since it was listed.

    :raises InputChangedError: if it has, or cannot be accessed.
    """
    try:
        change = find_change(path, version)
    except OSError as error:
        raise _changed(path, "cannot be accessed any more", f": {error.strerror}") from error
    if change is not None:
        raise _changed(path, "changed", f": {change}")


def _changed(path: str, how: str, reason: str = "") -> InputChangedError:
    return InputChangedError(
        f"{path!r} {how} while plan was reading the input{reason}. Run plan again when nothing writes to the input."
    )
