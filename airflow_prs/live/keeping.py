"""Keeps an answer for a moment, so that many users who look at a run cost as much as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from airflow_prs.live.storage_threads import PATIENCE_S, StorageThreads, left, wait_for

_T = TypeVar("_T")

_SHORTEST_S: Final = 1.5
_LONGEST_S: Final = 30.0
_SHARE: Final = 20
"""An answer that took long is kept so long that a twentieth of the time goes into it, but half a minute at most."""


@dataclass(slots=True)
class _Asked(Generic[_T]):
    """
    A question to storage.

    :param deadline: until when requests wait for the answer, by the monotonic clock.
    :param until: until when the answer is kept.
    """

    deadline: float
    until: float
    is_expired: bool = False
    answer: Future[_T] = field(default_factory=Future)


class Kept(Generic[_T]):
    """
    An answer that is asked for again and again.

    :param ask: returns it; called by one thread at a time.
    :param threads: where it is called.
    :param clock: seconds; decides how long an answer is kept.
    """

    def __init__(
        self, ask: Callable[[], _T], threads: StorageThreads, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: _Asked[_T] | None = None

    def get(self, deadline: float | None = None) -> _T:
        """
        Return the answer, as of a moment ago at most; raise what asking for it has raised.

        :param deadline: until when to wait, by the monotonic clock; None: for PATIENCE_S.
        :raises NoAnswerError: if there is no answer by then. Others that ask do not wait for it again, until it comes.
        """
        deadline = time.monotonic() + PATIENCE_S if deadline is None else deadline
        asked = self._current(deadline)
        if asked.is_expired:
            # It was under way when it expired, so it may be an old one.
            wait([asked.answer], left(min(deadline, asked.deadline)))
            asked = self._current(deadline)
        return wait_for(asked.answer, min(deadline, asked.deadline))

    def expire(self) -> None:
        """Ask again next time."""
        with self._lock:
            if self._asked is not None:
                self._asked.is_expired = True

    def _current(self, deadline: float) -> _Asked[_T]:
        """Return the newest question, which may be a new one."""
        with self._lock:
            before, now = self._asked, self._clock()
            if before is not None and not (before.answer.done() and (before.is_expired or now >= before.until)):
                return before
            # If no thread is free, that is known for as long as somebody has waited for one.
            asked = self._asked = _Asked(deadline=time.monotonic() + PATIENCE_S, until=now + 2 * PATIENCE_S)
        self._threads.start(lambda: self._timed(asked), asked.answer, deadline)
        return asked

    def _timed(self, asked: _Asked[_T]) -> _T:
        began = self._clock()
        try:
            return self._ask()
        finally:
            now = self._clock()
            asked.until = now + min(_LONGEST_S, max(_SHORTEST_S, _SHARE * (now - began)))
