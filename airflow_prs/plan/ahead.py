"""Reading files ahead of whoever takes what is in them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Found = TypeVar("Found")

_THREADS = 4
"""Enough to hide most of a file server's latency; each costs some memory, and on a local disk more bring nothing."""


def read_ahead(read: Callable[[str], Found], paths: Iterable[str]) -> Iterator[Found]:
    """
    Read files in threads, and give what was found in their order; only as many as there are threads lie ready.

    :param read: may raise, which ends it all.
    """
    left = iter(paths)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="airflow_prs-plan") as pool:
        reading: deque[Future[Found]] = deque(pool.submit(read, path) for path in itertools.islice(left, _THREADS))
        try:
            while reading:
                found = reading.popleft().result()
                reading.extend(pool.submit(read, path) for path in itertools.islice(left, 1))
                yield found
        finally:
            for future in reading:
                future.cancel()
