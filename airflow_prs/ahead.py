"""Several things at a time: what comes next is made while what came before is in use."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")
_Made = TypeVar("_Made")


@contextmanager
def one_ahead(source: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """
    Take from an iterator in a thread, one element ahead.

    It pays where both sides spend their time in code that lets other threads run: files, checksums, numpy, Arrow. Once
    the block is left, whatever it raises, the thread takes nothing more.

    :param source: is not used elsewhere meanwhile; what it raises is raised where its element was to come.
    """
    with ThreadPoolExecutor(1) as thread:

        def take() -> Iterator[_T]:
            made = thread.submit(list, itertools.islice(source, 1))
            while taken := made.result():
                made = thread.submit(list, itertools.islice(source, 1))
                yield taken[0]

        yield take()


def map_ahead(make: Callable[[_T], _Made], source: Iterable[_T], *, threads: int) -> Iterator[_Made]:
    """
    Make something of each element in threads, and give it in their order; only as many as there are threads lie ready.

    :param make: may raise, which ends it all.
    :param source: is taken from by whoever takes what is made.
    """
    left = iter(source)
    with ThreadPoolExecutor(threads) as pool:
        making: deque[Future[_Made]] = deque(pool.submit(make, one) for one in itertools.islice(left, threads))
        try:
            while making:
                made = making.popleft().result()
                making.extend(pool.submit(make, one) for one in itertools.islice(left, 1))
                yield made
        finally:
            for future in making:
                future.cancel()
