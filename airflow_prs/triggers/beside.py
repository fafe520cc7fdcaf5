"""
Threads in which triggers read run folders.

A triggerer has one event loop for all triggers. Its default threads also resolve host names: reads that hang there
because a file server does not answer would block every trigger of the triggerer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import TypeVar

from airflow_prs.object_storage.addresses import is_remote, parse_address

_THREADS = 4
"""Threads for each mount or bucket: if it hangs, no more than these hang, and those of others continue."""
_MOUNTS = Path("/proc/self/mounts")
_T = TypeVar("_T")


async def beside(folder: str, work: Callable[[], _T], *, within_s: float) -> _T:
    """
    Run a function in a thread, and return its result.

    :param folder: the folder or address that the function reads; all on a mount or in a bucket share a few threads.
    :param within_s: seconds to wait; a function that has not started by then never starts.
    :raises TimeoutError: if it has not ended by then.
    """
    place = place_of(folder)
    done = asyncio.get_running_loop().run_in_executor(_pool(place), work)
    try:
        return await asyncio.wait_for(done, within_s)
    except asyncio.TimeoutError:
        raise TimeoutError(f"the storage at {place} has not answered for {within_s:g} seconds") from None


@cache
def _pool(place: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, f"airflow_prs-look-{place}")


@lru_cache(maxsize=1024)
def place_of(folder: str) -> str:
    """Return the bucket of an address, or the mount of a local folder."""
    return str(parse_address(folder).bucket) if is_remote(folder) else mount_of(folder, _read_mounts())


def mount_of(folder: str, mounts: Iterable[str]) -> str:
    """Return the mount that a local folder is on, judged by its path alone: asking the storage could hang."""
    path = PurePath(folder)
    return max((mount for mount in mounts if path.is_relative_to(mount)), key=len, default="/")


def _read_mounts() -> list[str]:
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:  # not Linux
        return []
    # Spaces and some other characters are escaped in octal.
    return [line.split()[1].decode("unicode_escape").encode("latin-1").decode(errors="replace") for line in lines]
