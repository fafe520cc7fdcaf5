"""Buckets in memory, which count their requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obstore.store import MemoryStore

from airflow_prs.object_storage.addresses import Bucket
from airflow_prs.object_storage.connecting import Connection, use_connections


class CountingStore:
    """
    A store of obstore in memory.

    :ivar requests: how often each method was called; listing a page counts as "page".
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.requests: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def counted(*args: Any, **arguments: Any) -> Any:
            self.requests[name] += 1
            answer = method(*args, **arguments)
            return self._counted_pages(answer) if name == "list" else answer

        return counted

    def _counted_pages(self, pages: Any) -> Iterator[Any]:
        for page in pages:
            self.requests["page"] += 1
            yield page


@contextmanager
def buckets_in_memory() -> Iterator[dict[str, CountingStore]]:
    """Give the buckets by their names; each exists from its first use."""
    stores: dict[str, CountingStore] = {}

    def connect(bucket: Bucket) -> Connection:
        store: Any = stores.setdefault(bucket.name, CountingStore())
        return Connection(bucket=bucket, objects=store, bulk=store, native=lambda: None)

    use_connections(connect)
    try:
        yield stores
    finally:
        use_connections(_refuse)


def _refuse(bucket: Bucket) -> Connection:
    raise AssertionError(f"{bucket} is used after the test")


def upload(folder: Path, store: Any, prefix: str = "") -> None:
    """Put all files of a folder into a bucket."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(f"{prefix}{path.relative_to(folder)}", path.read_bytes())
