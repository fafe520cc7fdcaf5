"""The epoch of an attempt, from that of the attempt before it."""

from __future__ import annotations

from typing import Protocol

from airflow_prs.run_folder.shard_records import Epoch


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


def next_epoch(
    before: Earlier | None, *, execution: int, clear_number: int, max_tries: int | None, aborted: Epoch | None
) -> Epoch:
    """
    Return the epoch of an attempt; it is never older than that of the attempt before.

    :param before: the attempt before; None: there is none.
    :param execution: the execution of plan.
    :param clear_number: the run's ``clear_number`` when the attempt started.
    :param max_tries: max_tries of the Airflow task. If it differs from that of the attempt before, the task was
        cleared. None where clear_number counts every clear.
    :param aborted: the newest epoch that is bound by an abort. A task that was cleared is of a newer one, even if other
        tasks were cleared more often.
    """
    if before is None or before.epoch.execution != execution:
        return Epoch(execution, clear_number)
    newest = max(Epoch(execution, clear_number), before.epoch)
    if max_tries is None or before.max_tries == max_tries:
        return newest
    passed = [epoch.clear for epoch in (before.epoch, aborted) if epoch is not None and epoch.execution == execution]
    return Epoch(execution, max(newest.clear, max(passed) + 1))
