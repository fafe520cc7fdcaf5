"""The tries of Airflow's tasks, and the epoch of an attempt, from that of the attempt before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airflow_prs.run_folder.shard_records import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTry:
    """
    A try of an Airflow task, among all tries and clears of a run.

    :param execution: the execution of plan: number of its record in the task log.
    :param clear_number: the run's ``clear_number`` when the try started.
    :param try_number: Airflow's number of the try.
    :param max_tries: max_tries of the task. If it differs from that of the try before, the task was cleared. None where
        clear_number counts every clear.
    """

    execution: int = 0
    clear_number: int = 0
    try_number: int
    max_tries: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Tries are ordered by execution of plan, then by try number."""
        return self.execution, self.try_number


class Earlier(Protocol):
    """The attempt before: a shard's claim, or a try of the gatekeeper."""

    @property
    def epoch(self) -> Epoch:
        """Its epoch."""
        ...

    @property
    def max_tries(self) -> int:
        """Its max_tries."""
        ...


def next_epoch(before: Earlier | None, task_try: TaskTry, aborted: Epoch | None) -> Epoch:
    """
    Return the epoch of an attempt; it is never older than that of the attempt before.

    :param before: the attempt before; None: there is none.
    :param task_try: the try that makes this attempt.
    :param aborted: the newest epoch that is bound by an abort. A task that was cleared is of a newer one, even if other
        tasks were cleared more often.
    """
    execution = task_try.execution
    if before is None or before.epoch.execution != execution:
        return Epoch(execution, task_try.clear_number)
    newest = max(Epoch(execution, task_try.clear_number), before.epoch)
    if task_try.max_tries is None or before.max_tries == task_try.max_tries:
        return newest
    passed = [epoch.clear for epoch in (before.epoch, aborted) if epoch is not None and epoch.execution == execution]
    return Epoch(execution, max(newest.clear, max(passed) + 1))
