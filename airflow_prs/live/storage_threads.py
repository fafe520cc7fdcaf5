"""Threads that wait for storage, so that one that does not answer blocks neither requests nor the end of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final, TypeVar

_T = TypeVar("_T")

PATIENCE_S: Final = 5.0
"""How long a request waits for storage."""
CHANGE_PATIENCE_S: Final = 20.0
"""How long it waits if somebody has pressed a button: what is read for it grows with the shards of the run."""
_MOST_THREADS: Final = 16


class UnreadableError(Exception):
    """This machine cannot read a run folder."""


class NoAnswerError(UnreadableError):
    """Storage does not answer."""

    def __init__(self) -> None:
        super().__init__("the storage does not answer")


class StorageThreads:
    """
    A small, fixed number of threads, each of which may hang in a call to storage for ever.

    :param most: how many threads there are at most.
    """

    def __init__(self, most: int = _MOST_THREADS) -> None:
        self._free = threading.Semaphore(most)

    def start(self, work: Callable[[], _T], answer: Future[_T], deadline: float) -> None:
        """
        Let a thread do some work as soon as one is free. If none is until the deadline, the answer is NoAnswerError.

        :param answer: gets what the work returns or raises.
        :param deadline: by the monotonic clock, in seconds.
        """
        if not self._free.acquire(timeout=left(deadline)):
            answer.set_exception(NoAnswerError())
            return
        # A daemon: the threads of an executor would have to end before the server can.
        threading.Thread(target=self._run, args=(work, answer), daemon=True, name="airflow_prs-storage").start()

    def call(self, work: Callable[[], _T], patience_s: float = PATIENCE_S) -> _T:
        """
        Return what some work returns.

        :raises NoAnswerError: if it takes longer than ``patience_s``; it may have an effect later.
        """
        answer: Future[_T] = Future()
        deadline = time.monotonic() + patience_s
        self.start(work, answer, deadline)
        return wait_for(answer, deadline)

    def _run(self, work: Callable[[], _T], answer: Future[_T]) -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised for those who wait
            answer.set_exception(error)
        finally:
            self._free.release()


def wait_for(answer: Future[_T], deadline: float) -> _T:
    """
    Return an answer, or raise its error.

    :raises NoAnswerError: if there is none by the deadline.
    """
    try:
        return answer.result(left(deadline))
    except FutureTimeoutError:
        # Since Python 3.11 a TimeoutError of the work is of the same class.
        if answer.done():
            raise
        raise NoAnswerError from None


def left(deadline: float) -> float:
    """Return how many seconds are left until a deadline."""
    return max(0.0, deadline - time.monotonic())
