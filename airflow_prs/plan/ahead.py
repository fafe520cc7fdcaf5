"""Reading files ahead of whoever takes what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from airflow_prs.ahead import map_ahead

Found = TypeVar("Found")

_THREADS = 4
"""Enough to hide most of a file server's latency; each costs some memory, and on a local disk more bring nothing."""


def read_ahead(read: Callable[[str], Found], paths: Iterable[str]) -> Iterator[Found]:
    """
    Read files in threads, and give what was found in their order; only as many as there are threads lie ready.

    :param read: may raise, which ends it all.
    """
    return map_ahead(read, paths, threads=_THREADS)
