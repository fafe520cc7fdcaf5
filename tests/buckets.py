"""Buckets in memory, which count their requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obstore.store import MemoryStore

from airflow_prs.object_storage.addresses import Bucket
from airflow_prs.object_storage.connecting import Connection, _refuse, use_connections


class MemoryBucket:
    """
    A bucket in memory, with the methods of a store of obstore.

    :ivar store: the store itself, whose requests do not count.
    :ivar requests: how often each method was called; a page of a list counts as "page".
    :ivar log: each call: the method, the key, and the range that was asked for.
    :ivar before: called with the method and the key before each call; may raise, wait or write.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, str, Any]] = []
        self.before: Callable[[str, str], None] = lambda _method, _key: None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def counted(*args: Any, **arguments: Any) -> Any:
            key = (args[0] if args else None) or ""
            self.requests[name] += 1
            self.log.append((name, key, arguments.get("options", {}).get("range")))
            self.before(name, key)
            answer = method(*args, **arguments)
            return self._counted_pages(answer) if name == "list" else answer

        return counted

    def do_once_before(self, method: str, act: Callable[[], None]) -> None:
        """Do something before the next call of a method."""

        def before(name: str, _key: str) -> None:
            if name == method:
                self.before = lambda _method, _key: None
                act()

        self.before = before

    def bytes_read(self, key: str) -> int:
        """Return how many bytes of an object were asked for in ranges."""
        return sum(part[1] - part[0] for method, name, part in self.log if (method, name) == ("get", key) and part)

    def _counted_pages(self, pages: Any) -> Iterator[Any]:
        for page in pages:
            self.requests["page"] += 1
            yield page


@contextmanager
def bucket_in_memory() -> Iterator[MemoryBucket]:
    """Give a bucket that every address leads to."""
    bucket: Any = MemoryBucket()
    use_connections(lambda named: Connection(named, bucket, bucket, lambda: None))
    try:
        yield bucket
    finally:
        use_connections(_refuse)


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


def upload(folder: Path, bucket: MemoryBucket) -> None:
    """Put all files of a folder into a bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.store.put(str(path.relative_to(folder)), path.read_bytes())
