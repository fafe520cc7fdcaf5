"""
Split a mini-batch whose tries are used up, until the items that fail are found.

A trial is a call of run() with some of the items, whose rows are not kept. When all items are known, one more call gets
those that did not fail: the rows of a mini-batch have one place, whichever processes the trials have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from airflow_prs.node.work.failed_tries import Failure, failed_outcome
from airflow_prs.node.work.queue import Assignment, Part
from airflow_prs.records import FailedTry, Outcome, TryStatus

MOST_TRIALS = 100
"""For each mini-batch; the call that keeps the rows comes on top."""

MOST_TIMEOUTS = 20
"""Trials may take as many times run_invocation_timeout, in total."""

_NOT_SPLIT = {TryStatus.LOAD_EXCEPTION, TryStatus.LOAD_TIMEOUT, TryStatus.NODE_DIED}


def can_split(failure: Failure) -> bool:
    """Whether parts of a mini-batch may succeed: not if it cannot be loaded, or has killed its node."""
    return failure.assignment.mini_batch.items > 1 and failure.status not in _NOT_SPLIT


@dataclass(frozen=True, slots=True)
class _Range:
    """
    Consecutive items that are not known yet.

    :param is_first: whether its second half is the range that follows.
    :param has_failed: whether it is known to fail, since the rest of a range that fails does not.
    """

    begin: int
    end: int
    is_first: bool = False
    has_failed: bool = False

    def halves(self) -> tuple[_Range, _Range]:
        middle = (self.begin + self.end) // 2
        return _Range(self.begin, middle, is_first=True), _Range(middle, self.end)


class Bisection:
    """
    The search for the failing items of one mini-batch.

    :param first: the last try of the entire mini-batch.
    :param timeout_s: run_invocation_timeout.
    """

    def __init__(self, first: Failure, *, timeout_s: float) -> None:
        self._first = first
        self._most_s = MOST_TIMEOUTS * timeout_s
        self._open = list(reversed(_Range(0, first.assignment.mini_batch.items).halves()))
        self._good: list[_Range] = []
        self._failed: list[tuple[_Range, Failure]] = []
        self._trials = 0
        self._seconds = 0.0
        self._outcome: Outcome | None = None

    def next_assignment(self) -> Assignment | None:
        """Return the next call; None: result() is known."""
        self._narrow()
        if self._outcome is not None or not (self._open or self._good):
            return None
        ranges, is_trial = (self._open[-1:], True) if self._open else (self._good, False)
        part = Part(spans=_joined(ranges), is_trial=is_trial)
        last = self._first.assignment
        return Assignment(last.mini_batch, last.try_number + 1, is_alone=True, part=part)

    def take_success(self, outcome: Outcome) -> None:
        """Take the outcome of a call that succeeded."""
        if not self._open:
            self._outcome = outcome
            return
        self._count(outcome.duration_s)
        tried = self._open.pop()
        self._good.append(tried)
        if tried.is_first:
            self._open[-1] = replace(self._open[-1], has_failed=True)

    def take_failure(self, failure: Failure) -> None:
        """Take the failure of a call; one that says nothing of single items ends the search, and all items fail."""
        if not self._open or failure.status in _NOT_SPLIT:
            why = "its items succeeded in parts, but not together"
            if self._open:
                why = "in the search for the items that fail"
            self._first = replace(failure, error=f"{failure.error} ({why})", assignment=self._first.assignment)
            self._open, self._good, self._failed = [], [], []
            return
        self._count(failure.duration_s)
        tried = self._open.pop()
        if tried.end - tried.begin == 1:
            self._failed.append((tried, failure))
        else:
            self._open += reversed(tried.halves())

    def result(self, record: Callable[[Failure], FailedTry]) -> tuple[list[FailedTry], Outcome]:
        """
        Return the failed tries of the items that failed, and the outcome of the mini-batch.

        :param record: returns the record of a final failure.
        """
        tries = [record(replace(failure, assignment=self._of([tried]))) for tried, failure in self._failed]
        if self._outcome is not None:
            return tries, self._outcome
        all_failed = replace(self._first, assignment=self._of([]))
        return [*tries, record(all_failed)], failed_outcome(all_failed)

    def _narrow(self) -> None:
        """Split what is known to fail; end the search if it has taken too long."""
        if self._open and (self._trials >= MOST_TRIALS or self._seconds >= self._most_s):
            why = f"not split further after {self._trials} calls and {self._seconds:.3g} seconds"
            unknown = replace(self._first, error=f"{self._first.error} ({why})")  # the best reason that is known
            self._failed += [(left, unknown) for left in reversed(self._open)]
            self._open = []
        # A single item is tried even then, since the report shows its own error.
        while self._open and self._open[-1].has_failed and self._open[-1].end - self._open[-1].begin > 1:
            self._open += reversed(self._open.pop().halves())

    def _count(self, seconds: float) -> None:
        self._trials += 1
        self._seconds += seconds

    def _of(self, ranges: list[_Range]) -> Assignment:
        last = self._first.assignment
        part = Part(spans=_joined(ranges), is_trial=True) if ranges else None
        return Assignment(last.mini_batch, last.try_number + 1, part=part)


def _joined(ranges: Iterable[_Range]) -> tuple[tuple[int, int], ...]:
    """Return ranges in input order, those that touch as one."""
    spans: list[tuple[int, int]] = []
    for found in ranges:
        if spans and spans[-1][1] == found.begin:
            spans[-1] = (spans[-1][0], found.end)
        else:
            spans.append((found.begin, found.end))
    return tuple(spans)
