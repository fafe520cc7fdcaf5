"""Threads that produce the next elements while the consumer still uses the current one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


@contextmanager
def one_ahead(source: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """
    Yield an iterator that takes from another one in a thread, one element ahead.

    This is faster if both sides spend their time in code that releases the GIL: files, checksums, numpy, Arrow. After
    the block, also after an error in it, the thread takes no more elements.

    :param source: the other iterator, which the block must not use directly. Its errors are raised in place of an
        element.
    """
    with ThreadPoolExecutor(1) as thread:

        def take() -> Iterator[_T]:
            following = thread.submit(list, itertools.islice(source, 1))
            while taken := following.result():
                following = thread.submit(list, itertools.islice(source, 1))
                yield taken[0]

        yield take()


def map_ahead(call: Callable[[_T], _R], source: Iterable[_T], *, threads: int) -> Generator[_R]:
    """
    Yield the results of a function for each element, in order. The function runs in threads.

    At most as many results as there are threads wait for the consumer. Close the generator if it may be left early: the
    garbage collector would wait for its threads too, but in any thread, also in one that they wait for.

    :param call: the function; an error of it is raised in place of its result and ends the iteration.
    :param source: the elements; they are taken in the consumer's thread.
    """
    left = iter(source)
    with ThreadPoolExecutor(threads) as pool:
        futures: deque[Future[_R]] = deque(pool.submit(call, one) for one in itertools.islice(left, threads))
        try:
            while futures:
                result = futures.popleft().result()
                futures.extend(pool.submit(call, one) for one in itertools.islice(left, 1))
                yield result
        finally:
            for future in futures:
                future.cancel()
