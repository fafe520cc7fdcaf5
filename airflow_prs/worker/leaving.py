"""
The end of a worker process: what the script left running must not delay it without limit.

When a process ends, Python waits for threads, for functions that were registered with atexit, and for child processes
of multiprocessing. All of these run after the work is done, and may never end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

# Imported by name, because the script may replace the functions in their modules, as gevent does.
from _thread import start_new_thread
from collections.abc import Callable
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

DEFAULT_S = 10.0

_current_frames = sys._current_frames  # noqa: SLF001 - it is documented
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def end_within(
    seconds: float, since: str, tell: Callable[[str], None], loop: asyncio.AbstractEventLoop | None = None
) -> None:
    """
    End this process if it has not ended by itself after some seconds; returns immediately.

    :param since: what the seconds are counted from, such as ``shutdown() returned``.
    :param tell: takes a sentence about what delayed the process.
    :param loop: the event loop of the script.
    """

    def watch() -> None:
        sleep(seconds)
        with contextlib.suppress(Exception):  # the process ends in any case
            held = f"{_holder(loop)} had not ended {seconds:g} seconds after {since}"
            tell(f"{held}, so the process was ended (exit_timeout_s)")
        os._exit(0)

    with contextlib.suppress(RuntimeError):  # no thread can be started; the supervisor has a timeout, too
        start_new_thread(watch, ())


def _holder(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return what the main thread waits for, in words."""
    frame = _current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "a function of a compiled library, registered with atexit,"
    outermost = frame
    while outermost.f_back is not None:
        outermost = outermost.f_back
    if outermost.f_code.co_name == "_shutdown" and outermost.f_globals is vars(threading):
        return _listed("thread", _threads())
    if outermost.f_code.co_filename.startswith(_OWN_FOLDER):
        return _listed("task", _tasks(loop))
    children = _listed("process", _children())
    return f"{_described(outermost)}, registered with atexit," + (f" which waits for {children}," if children else "")


def _threads() -> list[str]:
    """Return the threads that Python waits for."""
    frames = _current_frames()
    main = threading.main_thread()
    waited_for = [each for each in threading.enumerate() if not each.daemon and each is not main]
    return [f"{each.name} ({_place(frames.get(each.ident or 0))})" for each in waited_for]


def _children() -> list[str]:
    """Return the child processes that multiprocessing waits for."""
    multiprocessing = sys.modules.get("multiprocessing")
    found = [] if multiprocessing is None else multiprocessing.active_children()
    return [f"{each.name} (process id {each.pid})" for each in found if not each.daemon]


def _tasks(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Return the names of coroutines that are not done in the event loop."""
    import asyncio

    found = [] if loop is None else asyncio.all_tasks(loop)
    names = (str(getattr(each.get_coro(), "__qualname__", "")) for each in found)
    return [f"{name}()" for name in names if name != "_end_tasks"]


def _place(frame: FrameType | None) -> str:
    """Return the innermost place in the script or an installed library; if there is none, the innermost place."""
    innermost = frame
    while frame is not None and _is_of_python(frame.f_code.co_filename):
        frame = frame.f_back
    found = frame or innermost
    return "at its end" if found is None else _described(found)


def _is_of_python(path: str) -> bool:
    return path.startswith("<frozen") or (path.startswith(_LIBRARY) and "-packages" + os.sep not in path)


def _described(frame: FrameType) -> str:
    folder, name = os.path.split(frame.f_code.co_filename)
    return f"{frame.f_code.co_name}() in {os.path.join(os.path.basename(folder), name)}, line {frame.f_lineno}"


def _listed(kind: str, names: list[str]) -> str:
    return f"{kind} {', '.join(sorted(names))}" if names else ""
