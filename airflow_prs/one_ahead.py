"""Two things at a time: what comes next is made while what came before is in use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


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
