"""Buckets in memory, and plans whose input is on them: for tests of nodes without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from obstore.store import MemoryStore

from airflow_prs.object_storage.connecting import Connection, _refuse, use_connections
from airflow_prs.records import Piece


@dataclass
class FakeBucket:
    """
    A bucket in memory that counts requests, and may disturb them.

    :param before: called with the kind of each request and its key, before it is answered; may raise, wait or write.
    """

    store: MemoryStore = field(default_factory=MemoryStore)
    before: Callable[[str, str], None] = lambda _kind, _key: None
    requests: list[tuple[str, str, Any]] = field(default_factory=list)

    def head(self, key: str) -> Any:
        self._note("head", key, None)
        return self.store.head(key)

    def get(self, key: str, *, options: Mapping[str, Any]) -> Any:
        self._note("get", key, options.get("range"))
        return self.store.get(key, options=options)

    def list(self, prefix: str | None = None, **options: Any) -> Any:
        self._note("list", prefix or "", None)
        return self.store.list(prefix, **options)

    def put(self, key: str, data: bytes) -> None:
        self.store.put(key, data)

    def bytes_read(self, key: str) -> int:
        """Return how many bytes of an object were asked for in ranges."""
        return sum(part[1] - part[0] for kind, name, part in self.requests if (kind, name) == ("get", key) and part)

    def _note(self, kind: str, key: str, part: Any) -> None:
        self.requests.append((kind, key, part))
        self.before(kind, key)


@contextmanager
def fake_bucket() -> Iterator[FakeBucket]:
    """Give a bucket that every address of object storage leads to."""
    bucket = FakeBucket()
    use_connections(lambda named: Connection(named, bucket, bucket, lambda: None))  # type: ignore[arg-type]
    try:
        yield bucket
    finally:
        use_connections(_refuse)


def on_bucket(bucket: FakeBucket, piece: Piece, key: str, address: str = "s3://conn@bucket") -> Piece:
    """Return a piece of a file that is an object now, in its present version."""
    return replace_piece(piece, path=f"{address}/{key}", version=bucket.store.head(key)["e_tag"])


def replace_piece(piece: Piece, **changes: Any) -> Piece:
    return piece._replace(**changes)
