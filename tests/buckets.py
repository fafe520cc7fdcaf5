"""Buckets in memory, which count their requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obstore.store import MemoryStore

from airflow_prs.object_storage.addresses import Bucket
from airflow_prs.object_storage.connecting import Connection, use_connections


class MemoryBucket:
    """
    A bucket in memory, with the methods of a store of obstore.

    :ivar store: the store itself, whose requests do not count.
    :ivar requests: how often each method was called; a page of a list counts as "page".
    :ivar before: what is called before the first call of a method, by its name.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.requests: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def counted(*args: Any, **arguments: Any) -> Any:
            self.before.pop(name, lambda: None)()
            self.requests[name] += 1
            answer = method(*args, **arguments)
            return self._counted_pages(answer) if name == "list" else answer

        return counted

    def _counted_pages(self, pages: Any) -> Iterator[Any]:
        for page in pages:
            self.requests["page"] += 1
            yield page


@contextmanager
def buckets_in_memory(*names: str) -> Iterator[dict[str, MemoryBucket]]:
    """Give buckets by their names. Every connection leads to them."""
    buckets = {name: MemoryBucket() for name in names}

    def connect(bucket: Bucket) -> Connection:
        store: Any = buckets[bucket.name]
        return Connection(bucket=bucket, objects=store, bulk=store, native=lambda: None)

    use_connections(connect)
    try:
        yield buckets
    finally:
        use_connections(_refuse)


def _refuse(bucket: Bucket) -> Connection:
    raise AssertionError(f"{bucket} is used after the test")


def upload(folder: Path, bucket: MemoryBucket) -> None:
    """Put all files of a folder into a bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.store.put(str(path.relative_to(folder)), path.read_bytes())
