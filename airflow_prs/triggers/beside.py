"""
Threads in which triggers look at run folders.

A triggerer has one event loop for all triggers. Its default threads also resolve host names, so that looks which hang
there, because a file server does not answer, would hold up every trigger of the triggerer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import TypeVar

_THREADS = 4
"""Of each mount: no more than these hang with it, and those of other mounts go on."""
_MOUNTS = Path("/proc/self/mounts")
_T = TypeVar("_T")


async def beside(folder: str, work: Callable[[], _T], *, within_s: float) -> _T:
    """
    Work in a thread.

    :param folder: what the work is about; whatever is on the same mount shares a few threads.
    :param within_s: seconds to wait; work that has not begun by then is dropped.
    :raises TimeoutError: if it is not done by then.
    """
    mount = _mount(folder)
    done = asyncio.get_running_loop().run_in_executor(_pool(mount), work)
    try:
        return await asyncio.wait_for(done, within_s)
    except asyncio.TimeoutError:
        raise TimeoutError(f"the storage at {mount} has not answered for {within_s:g} seconds") from None


@cache
def _pool(mount: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, f"airflow_prs-look-{mount}")


@lru_cache(maxsize=1024)
def _mount(folder: str) -> str:
    return mount_of(folder, _read_mounts())


def mount_of(folder: str, mounts: Iterable[str]) -> str:
    """Return the mount that a folder is on, told by its path: to ask the storage could hang."""
    path = PurePath(folder)
    return max((mount for mount in mounts if path.is_relative_to(mount)), key=len, default="/")


def _read_mounts() -> list[str]:
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:  # not Linux
        return []
    # Blanks and the like are escaped in octal.
    return [line.split()[1].decode("unicode_escape").encode("latin-1").decode(errors="replace") for line in lines]
