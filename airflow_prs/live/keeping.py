"""Keeps an answer for a moment, so that many users who look at a run cost as much as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

_SHORTEST_S: Final = 1.5
_LONGEST_S: Final = 30.0
_SHARE: Final = 20
"""An answer that took long is kept so long that a twentieth of the time goes into it, but half a minute at most."""


class Kept(Generic[_T]):
    """
    An answer that is asked for again and again.

    :param ask: returns it; called by one thread at a time.
    :param clock: seconds.
    """

    def __init__(self, ask: Callable[[], _T], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._is_expired = False
        self._answer: _T | None = None
        self._error: Exception | None = None

    def get(self) -> _T:
        """Return the answer, as of a moment ago at most; raise what asking for it has raised."""
        with self._lock:
            began = self._clock()
            if self._is_expired or began >= self._until or (self._answer is None and self._error is None):
                # Before it asks: an answer that was under way when it expired may be an old one.
                self._is_expired = False
                self._renew()
                now = self._clock()
                self._until = now + min(_LONGEST_S, max(_SHORTEST_S, _SHARE * (now - began)))
            if self._error is not None:
                raise self._error.with_traceback(None)
            return self._answer  # type: ignore[return-value]  # there is one if there is no error

    def expire(self) -> None:
        """Ask again next time."""
        self._is_expired = True

    def _renew(self) -> None:
        self._answer, self._error = None, None
        try:
            self._answer = self._ask()
        except Exception as error:  # noqa: BLE001 - it is raised for everybody who asks
            self._error = error
