"""Failed tries: the one place that decides what follows from a failed try, and that makes the records of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_prs.node.work.queue import Assignment
from airflow_prs.records import FailedTry, Outcome, TryStatus

_ITEMS_SHOWN = 10
_LONGEST_DELAY_S = 3600.0
_JITTER = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A try that failed.

    :param assignment: what was tried.
    :param process: name of the worker process.
    :param started: when the try began, seconds since the epoch (UTC).
    :param is_hopeless: whether the script says that another try would not help.
    :param wait_s: how long the script asks to wait before the next try.
    """

    assignment: Assignment
    status: TryStatus
    error: str
    traceback: str = ""
    process: str
    started: float
    duration_s: float
    run_s: float = 0.0
    cpu_s: float = 0.0
    is_hopeless: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    How often and when a mini-batch is tried.

    :param most_tries: run_max_try.
    :param delay_s: seconds before the second try; twice as long before each further one.
    :param count_failed_tries: whether a failed try counts against thresholds even if another one follows.
    :param bisect_timeout_s: run_invocation_timeout, if a mini-batch whose tries are used up is split; None: it is not.
    """

    most_tries: int
    delay_s: float = 0.0
    count_failed_tries: bool = False
    bisect_timeout_s: float | None = None

    def next_try_after_s(self, failure: Failure) -> float | None:
        """Return the seconds until the next try; None: the mini-batch has failed."""
        number = failure.assignment.try_number
        if failure.status is TryStatus.NODE_DIED and self._may_search_again(number):
            return 0.0
        if failure.is_hopeless or number >= self.most_tries:
            return None
        delay_s = min(_LONGEST_DELAY_S, self.delay_s * 2.0 ** (number - 1))
        # Jitter, so that the retries of many do not start in the same moment.
        return max(failure.wait_s, delay_s * random.uniform(1 - _JITTER, 1 + _JITTER))

    def _may_search_again(self, number: int) -> bool:
        """
        Return whether a mini-batch that was being split when its node died is tried and split again.

        Otherwise its good items would fail. Each death takes two numbers, that of the search and that of the try that
        follows, so a mini-batch survives about as many deaths as it has tries.
        """
        return self.bisect_timeout_s is not None and self.most_tries < number < 3 * self.most_tries


def judge_end(
    running: Sequence[Failure], waiting: Sequence[Assignment], *, overdue: int | None
) -> tuple[Failure | None, list[Assignment]]:
    """
    Decide which try the end of a process is charged to.

    If it worked on several mini-batches and none was overdue, none is charged: each will be tried alone.

    :param running: the mini-batches that the process worked on, each as it would be charged.
    :param waiting: those that it held and had not begun.
    :param overdue: index of the one that it was killed for; None: it was not killed for one.
    :return: the failed try, None if there is none; and what is handed out again uncharged.
    """
    if overdue is None and len(running) > 1:
        return None, [*(replace(failure.assignment, is_alone=True) for failure in running), *waiting]
    charged = [failure for failure in running if overdue in {None, failure.assignment.mini_batch.index}]
    others = [failure.assignment for failure in running if failure not in charged]
    return (charged[0] if charged else None), [*others, *waiting]


def failed_try(failure: Failure, *, is_final: bool, node: str, log: str) -> FailedTry:
    """
    Return the record of a failed try.

    :param node: ``<host>-<shard>-<try>``.
    :param log: path of the process's log inside the run folder.
    """
    mini_batch = failure.assignment.mini_batch
    return FailedTry(
        index=mini_batch.index,
        try_number=failure.assignment.try_number,
        final=is_final,
        status=failure.status,
        error=failure.error,
        traceback=failure.traceback,
        items=_names_of(failure.assignment),
        spans=() if failure.assignment.part is None else failure.assignment.part.spans,
        node=node,
        process=failure.process,
        started=failure.started,
        duration_s=failure.duration_s,
        log=log,
    )


def _names_of(assignment: Assignment) -> tuple[str, ...]:
    """Return the names of the first items that were tried."""
    spans = () if assignment.part is None else assignment.part.spans
    return tuple(itertools.islice(assignment.mini_batch.names_of(spans), _ITEMS_SHOWN))


def failed_outcome(failure: Failure) -> Outcome:
    """Return the outcome of a mini-batch whose last try failed."""
    mini_batch = failure.assignment.mini_batch
    return Outcome(
        index=mini_batch.index,
        status=failure.status,
        tries=failure.assignment.try_number,
        items=mini_batch.items,
        started=failure.started,
        duration_s=failure.duration_s,
        run_s=failure.run_s,
        cpu_s=failure.cpu_s,
    )
