"""The adapters of the store, each as a function that returns an empty store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.port import Store
from airflow_prs.store.posix import PosixStore

STORES: dict[str, Callable[[Path], Store]] = {
    "posix": PosixStore,
    "memory": lambda _folder: MemoryStore(),
}
"""By name; each gets an empty folder of its own."""
