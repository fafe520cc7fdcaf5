"""The first and the last line of an attempt at a shard in its task log."""

from __future__ import annotations

from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.thresholds.pace import describe_progress
from airflow_prs.wording import counted, duration


def describe_begin(attempt: Attempt, processes: int) -> str:
    """
    Return what an attempt begins with.

    :param processes: number of its worker processes.
    """
    what = f"{attempt.shard.label}: try {attempt.claim.try_number} on {attempt.writer.node}"
    have = counted(processes, "worker process", "worker processes")
    if attempt.shard.is_borrowing:
        return f"{what}; {have}"
    return f"{what}; {describe_progress(attempt.inheritance.progress)}; {have}"


def describe_end(attempt: Attempt, seconds: float) -> str:
    """
    Return what an attempt ends with.

    :param seconds: how long it took.
    """
    if attempt.shard.is_borrowing:
        return f"{attempt.shard.label}: it has ended after {duration(seconds)}"
    before, now = attempt.inheritance.progress, attempt.known_state.progress
    done = now.done - before.done
    return (
        f"{attempt.shard.label}: {describe_progress(now)}; {now.items_failed:,} of "
        f"{counted(now.items_total, 'item')} failed; {counted(done, 'mini-batch', 'mini-batches')} in "
        f"{duration(seconds)}, {done / seconds:.3g} a second"
    )
