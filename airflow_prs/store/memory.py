"""The store in memory, for tests."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import IO, Final
from uuid import uuid4

from airflow_prs.store.keys import check_key, check_prefix, superseded
from airflow_prs.store.port import Found, Stat, Unfinished


class MemoryStore:
    """
    Keys are those of a dict. Threads may share it.

    :param before: is called with the name of each operation and its key or prefix before it happens, and may raise or
        block. ``writer`` is two operations: "writer" on entry, and "publish" on a clean exit.
    """

    together: Final = 1

    def __init__(self, before: Callable[[str, str], None] | None = None) -> None:
        self._before = before or (lambda _operation, _key: None)
        self._lock = Lock()
        self._held: dict[str, tuple[bytes, int, float]] = {}
        self._uploads: dict[tuple[str, str], float] = {}
        self._versions = count()

    def __str__(self) -> str:
        return "memory"

    def create(self, key: str, data: bytes) -> bool:
        """Set a key unless it is there."""
        check_key(key)
        self._before("create", key)
        with self._lock:
            if key not in self._held:
                self._set(key, data)
            return self._held[key][0] == data

    def put(self, key: str, data: bytes) -> None:
        """Set a key."""
        check_key(key)
        self._before("put", key)
        with self._lock:
            self._set(key, data)

    def copy(self, source: str, key: str) -> None:
        """Set a key to what another one holds."""
        check_key(source)
        check_key(key)
        self._before("copy", key)
        with self._lock:
            if source not in self._held:
                raise FileNotFoundError(source)
            self._set(key, self._held[source][0])

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Look a key up."""
        check_key(key)
        self._before("get", key)
        held = self._held.get(key)
        return None if held is None else held[0][start:end]

    def reader(self, key: str) -> IO[bytes]:
        """Look a key up."""
        check_key(key)
        self._before("reader", key)
        held = self._held.get(key)
        if held is None:
            raise FileNotFoundError(key)
        return io.BytesIO(held[0])

    def list(self, prefix: str, after: str | None = None) -> Sequence[str]:
        """Look through all keys."""
        check_prefix(prefix)
        self._before("list", prefix)
        with self._lock:
            return sorted(key for key in self._held if key.startswith(prefix) and (after is None or key > after))

    def list_folders(self, prefix: str) -> Sequence[str]:
        """Look through all keys."""
        rests = (key[len(prefix) :].partition("/") for key in self.list(prefix))
        return sorted({name for name, slash, _ in rests if slash})

    def scan(self, prefix: str) -> Iterator[Found]:
        """Look through all keys."""
        for key in self.list(prefix):
            if (found := self.stat(key)) is not None:
                yield Found(key, found.size, found.modified)

    def stat(self, key: str) -> Stat | None:
        """Look a key up; its version is a number that no other one has."""
        check_key(key)
        self._before("stat", key)
        held = self._held.get(key)
        return None if held is None else Stat(len(held[0]), str(held[1]), held[2])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys one by one."""
        for key in keys:
            check_key(key)
            self._before("delete", key)
            with self._lock:
                self._held.pop(key, None)

    def delete_folder(self, prefix: str) -> None:
        """Remove keys one by one."""
        self.delete(self.list(prefix))

    def new_upload(self, key: str) -> str:
        """Note an upload."""
        check_key(key)
        self._before("new_upload", key)
        upload = uuid4().hex
        with self._lock:
            self._uploads[key, upload] = time.time()
        return upload

    @contextmanager
    def writer(self, key: str, upload: str | None = None) -> Iterator[IO[bytes]]:
        """Collect what is written, and set the key unless the upload was revoked."""
        check_key(key)
        self._before("writer", key)
        try:
            with _Stream() as out:
                yield out
            self._before("publish", key)
            with self._lock:
                if upload is not None and (key, upload) not in self._uploads:
                    raise superseded(key)
                self._set(key, out.content)
        finally:
            if upload is not None:
                self._forget(key, upload)

    def revoke(self, key: str, upload: str) -> None:
        """Forget an upload."""
        check_key(key)
        self._before("revoke", key)
        self._forget(key, upload)

    def find_unfinished(self, prefix: str, before: float, *, is_recursive: bool) -> Iterator[Unfinished]:
        """Look through the uploads."""
        check_prefix(prefix)
        self._before("find_unfinished", prefix)
        for (key, upload), begun in [*self._uploads.items()]:
            is_below = key.startswith(prefix) and (is_recursive or "/" not in key[len(prefix) :])
            if is_below and begun < before:
                yield Unfinished(key, upload, 0, begun)

    def discard(self, unfinished: Unfinished) -> None:
        """Forget the upload."""
        self.revoke(unfinished.key, unfinished.upload)

    def _forget(self, key: str, upload: str) -> None:
        with self._lock:
            self._uploads.pop((key, upload), None)

    def _set(self, key: str, data: bytes) -> None:
        self._held[key] = (bytes(data), next(self._versions), time.time())


class _Stream(io.BytesIO):
    """A stream whose content outlives it."""

    content = b""

    def close(self) -> None:
        if not self.closed:
            self.content = self.getvalue()
        super().close()
