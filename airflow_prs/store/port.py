"""
The store: where a run keeps its files, as keys and bytes.

A key is a relative path with `/` between its parts, such as ``shards/00000/log/0000000000``. No part is empty, `.` or
`..`, and no key is a folder of another one. An adapter implements this protocol for one kind of storage; the
conformance suite in the tests runs against all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO, NamedTuple, Protocol


class Stat(NamedTuple):
    """
    What a store knows of a key without reading it.

    :param size: bytes.
    :param version: changes whenever the content does. It may stay if the same content is written again.
    :param modified: when it was last written, in seconds since the epoch (UTC) by the clock of the storage; for
        readers, it decides nothing.
    """

    size: int
    version: str
    modified: float


class Found(NamedTuple):
    """
    A key that a store holds.

    :param size: bytes.
    :param modified: see ``Stat``.
    """

    key: str
    size: int
    modified: float


class Unfinished(NamedTuple):
    """
    An upload that has neither appeared nor been revoked.

    :param key: what it was going to write, or the name of the temporary file.
    :param upload: what the storage knows it by.
    :param size: bytes that the storage holds of it.
    :param modified: when something was last written to it, see ``Stat``.
    """

    key: str
    upload: str
    size: int
    modified: float


class Store(Protocol):
    """
    Keys and bytes. Every method may raise OSError if the storage has a problem, and ValueError if a key is malformed.

    Only ``create`` and ``writer`` decide anything: correctness never depends on the other methods being fresh.

    :ivar together: how many requests to read are best sent at the same time: 1 where an answer comes immediately.
    """

    @property
    def together(self) -> int:
        """See above."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """
        Write a key that does not exist yet: all of it or nothing, durable on return.

        :return: True if the key is new, or already holds exactly these bytes, because a request was repeated whose
            first answer was lost. False if it holds other bytes.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write a key, and replace what it holds, all of it or nothing."""
        ...

    def copy(self, source: str, key: str) -> None:
        """
        Let a key hold what another key holds, and replace what it holds, all of it or nothing.

        :raises FileNotFoundError: if there is no such source.
        """
        ...

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """
        Return what a key holds; None: there is no such key.

        :param start: first byte; None: 0.
        :param end: one past the last byte; None: the end. Bytes beyond the end are left out.
        """
        ...

    def reader(self, key: str) -> IO[bytes]:
        """
        Return a file to read a key from, at any place.

        :raises FileNotFoundError: if there is no such key.
        """
        ...

    def list(self, prefix: str, after: str | None = None) -> Sequence[str]:
        """
        Return the keys that begin with a prefix, sorted. It is slow on some storage: never call it in a poll.

        :param prefix: ends with `/`, or is empty.
        :param after: only keys that sort after this one.
        """
        ...

    def list_folders(self, prefix: str) -> Sequence[str]:
        """
        Return the names of the folders directly below a prefix, sorted: the next part of the keys that have more parts.

        On a file system, a folder may be empty.

        :param prefix: ends with `/`, or is empty.
        """
        ...

    def scan(self, prefix: str) -> Iterator[Found]:
        """
        Yield the keys that begin with a prefix, in any order. It is as slow as ``list``.

        :param prefix: ends with `/`, or is empty.
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """Return the size and the version of a key; None: there is no such key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys; those that do not exist are ignored."""
        ...

    def delete_folder(self, prefix: str) -> None:
        """
        Delete the keys that begin with a prefix, and on a file system the folder.

        :param prefix: ends with `/`, or is empty.
        """
        ...

    def new_upload(self, key: str) -> str:
        """Return a unique name for an upload to a key; nothing is written yet. It is to be noted before ``writer``."""
        ...

    def writer(self, key: str, upload: str | None = None) -> AbstractContextManager[IO[bytes]]:
        """
        Write a key as a stream; it appears, and replaces what was there, on a clean exit alone.

        :param upload: its name from ``new_upload``, with which others can revoke it; None: nobody will.
        :raises SupersededError: if the upload was revoked, or is gone for another reason; on exit at the latest. On
            object storage it is also gone if somebody else replaces the key meanwhile.
        """
        ...

    def revoke(self, key: str, upload: str) -> None:
        """
        Make sure that an upload does not appear from now on.

        It may have appeared before, have been revoked before, or never have been begun. The exception is Azure: there
        an upload of another process to a key that did not exist may appear until the key does exist.
        """
        ...

    def find_unfinished(self, prefix: str, before: float, *, is_recursive: bool) -> Iterator[Unfinished]:
        """
        Yield the uploads that were begun, with a name or without, and not written to for long.

        Azure forgets them by itself, and lists none.

        :param prefix: of their keys; ends with `/`, or is empty.
        :param before: nobody has written to them since, in seconds since the epoch.
        :param is_recursive: whether folders below the prefix count.
        """
        ...

    def discard(self, unfinished: Unfinished) -> None:
        """Remove what ``find_unfinished`` has found."""
        ...
