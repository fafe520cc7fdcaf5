"""A profile of all calls of run() in a process, for the option ``--profiling_module``."""

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
    Collects a profile and writes it to a file that ``pstats`` reads.

    :param module: ``cProfile`` or ``profile``.
    :param path: the file; it is replaced atomically every minute.
    :param clock: returns seconds.
    """

    def __init__(self, module: str, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._profiler: Any = importlib.import_module(module).Profile()
        # profile.Profile counts the call that switches it off as open, and the next call would fail an assertion.
        self._complete: Callable[[], None] = getattr(self._profiler, "simulate_cmd_complete", lambda: None)
        self._path = path
        self._clock = clock
        self._written = clock()
        self._is_on = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function under the profiler and return its result."""
        self._is_on = True
        try:
            return self._profiler.runcall(_apply, function, arguments)
        finally:
            self._is_on = False
            self._complete()

    async def follow(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await a coroutine and return its result; the profiler runs only while the coroutine does."""
        return await self._steps(work)

    def make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        """Return a task, as task factory of an event loop; tasks that profiled code starts are profiled, too."""
        import asyncio

        return asyncio.Task(self.follow(work) if self._is_on else work, loop=loop, **options)

    def write_if_due(self) -> None:
        """Write the file if the last time was a minute ago."""
        if self._clock() - self._written >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the profile so far; a failure is only logged."""
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
            except BaseException as error:  # noqa: BLE001 - passed on to the coroutine, such as a cancellation
                step, value = work.throw, error


def _apply(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function; the profiler lists what it was asked to call, which is always this one."""
    return function(*arguments)
