"""Run functions against a store step by step, in any order: a step ends before the next call of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process of an actor has been killed."""


class Actor:
    """
    A process that calls a store, and stops before each call until ``step`` is called.

    :param work: gets a function that wraps a store, so that each of its methods is a step.
    :ivar outcome: what ``work`` returned or raised; None: it has not ended.
    """

    def __init__(self, work: Callable[[Callable[[Any], Any]], Any]) -> None:
        self.outcome: Any = None
        self.has_ended = False
        self._is_killed = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Make the next call of the store, and run up to the one after it."""
        if not self.has_ended:
            self._go.release()
            self._stopped.acquire()

    def finish(self) -> Any:
        """Run to the end, and return the outcome."""
        while not self.has_ended:
            self.step()
        return self.outcome

    def kill(self) -> None:
        """End it before its next call."""
        self._is_killed = True
        self.step()

    def _run(self, work: Callable[[Callable[[Any], Any]], Any]) -> None:
        self._go.acquire()
        try:
            self.outcome = work(lambda store: _Stepping(store, self._pause))
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error
        finally:
            self.has_ended = True
            self._stopped.release()

    def _pause(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed


class _Stepping:
    """A store whose calls are steps; a stream is one step when it begins and one when it appears."""

    def __init__(self, store: Any, pause: Callable[[], None]) -> None:
        self._store = store
        self._pause = pause

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._pause()
            made = method(*args, **kwargs)
            return _SteppingWriter(made, self._pause) if name == "writer" else made

        return call


class _SteppingWriter:
    def __init__(self, writer: Any, pause: Callable[[], None]) -> None:
        self._writer = writer
        self._pause = pause

    def __enter__(self) -> Any:
        return self._writer.__enter__()

    def __exit__(self, *error: Any) -> Any:
        if error[0] is None:
            try:
                self._pause()
            except Killed as killed:
                self._writer.__exit__(Killed, killed, None)
                raise
        return self._writer.__exit__(*error)
