"""A profile of all calls of run() in a process, as ``--profiling_module`` asks for it."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)

WRITE_EVERY_S = 60


class RunProfile:
    """
    Collects, and writes a file that ``pstats`` reads.

    :param module: ``cProfile`` or ``profile``.
    :param path: the file; written anew each minute, whole each time.
    """

    def __init__(self, module: str, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._profiler: Any = importlib.import_module(module).Profile()
        # The Python one still counts the call that switches it off, and takes offence at it the next time.
        self._complete: Callable[[], None] = getattr(self._profiler, "simulate_cmd_complete", lambda: None)
        self._path = path
        self._clock = clock
        self._written = clock()
        self._is_on = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, and count what it does."""
        self._is_on = True
        try:
            return self._profiler.runcall(_apply, function, arguments)
        finally:
            self._is_on = False
            self._complete()

    async def follow(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine, and count what it does, but not what others do while it waits."""
        return await self._steps(work)

    def make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        """Be the task factory of an event loop: what is started by what is followed is followed, too."""
        import asyncio

        return asyncio.Task(self.follow(work) if self._is_on else work, loop=loop, **options)

    def write_if_due(self) -> None:
        """Write the file if that was a minute ago."""
        if self._clock() - self._written >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write what has been counted so far; where that fails, work goes on."""
        self._written = self._clock()
        temporary = f"{self._path}.tmp"
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._profiler.dump_stats(temporary)
            os.replace(temporary, self._path)
        except OSError as error:
            _log.warning("the profile %s cannot be written: %s", self._path, error)

    @coroutine
    def _steps(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            try:
                waits_for = self.call(step, value)
            except StopIteration as end:
                return end.value
            try:
                step, value = work.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - handed on: a cancellation, or what was waited for failed
                step, value = work.throw, error


def _apply(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function; always the same one for a profiler that takes note of what it was asked to call."""
    return function(*arguments)
