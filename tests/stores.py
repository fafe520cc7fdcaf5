"""The adapters of the store, each as a function that returns an empty store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from airflow_prs.object_storage.addresses import Address
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.objects import ObjectStore
from airflow_prs.store.port import Store
from airflow_prs.store.posix import PosixStore
from tests.object_servers import SERVERS, serve


def object_store(server: str, prefix: str | None = None) -> ObjectStore:
    """Return a store on a server; it is empty if no prefix is passed."""
    found = serve(server)
    connection = found.connect()
    return ObjectStore(Address(found.bucket, prefix or uuid4().hex), lambda _: connection)


STORES: dict[str, Callable[[Path], Store]] = {
    "posix": PosixStore,
    "memory": lambda _folder: MemoryStore(),
    **{server: lambda _folder, server=server: object_store(server) for server in SERVERS},
}
"""By name; each gets an empty folder of its own."""
