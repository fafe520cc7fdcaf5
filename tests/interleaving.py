"""Run functions on a store in memory step by step, in any order: a step ends before the next call of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_local = threading.local()


class KilledError(BaseException):
    """The process of an actor has been killed."""


class Actor:
    """
    A process that works on a MemoryStore whose ``before`` is ``pause``. It stops before each call until it is stepped.

    :ivar at: the operation before which it stands; None: it has not begun, or has ended.
    :ivar outcome: what its work returned or raised; None: it has not ended, or was killed.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.at: str | None = None
        self.outcome: Any = None
        self.has_ended = False
        self._is_killed = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def step(self) -> None:
        """Make the call before which it stands, and run up to the next one."""
        if not self.has_ended:
            self._go.release()
            self._stopped.acquire()

    def step_to(self, operation: str) -> None:
        """Run up to an operation."""
        while self.at != operation:
            self.step()

    def finish(self) -> Any:
        """Run to the end, and return the outcome."""
        while not self.has_ended:
            self.step()
        return self.outcome

    def kill(self) -> None:
        """End it before the call before which it stands."""
        self._is_killed = True
        self.step()

    def _run(self, work: Callable[[], Any]) -> None:
        _local.actor = self
        self._go.acquire()
        try:
            self.outcome = work()
        except KilledError:
            pass
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error
        finally:
            self.has_ended, self.at = True, None
            self._stopped.release()

    def _pause(self, operation: str) -> None:
        if self._is_killed:
            raise KilledError
        self.at = operation
        self._stopped.release()
        self._go.acquire()
        if self._is_killed:
            raise KilledError


def pause(operation: str, _key: str) -> None:
    """Stop the actor of this thread until it is stepped; other threads go on."""
    actor = getattr(_local, "actor", None)
    if actor is not None:
        actor._pause(operation)
