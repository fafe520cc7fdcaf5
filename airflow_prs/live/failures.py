"""Failed mini-batches, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.live.addresses import step_api, task_ref
from airflow_prs.live.nodes import shard_and_try
from airflow_prs.records import FailedTry, MiniBatch, TryStatus
from airflow_prs.run_folder.committed import Committed, read_result

if TYPE_CHECKING:
    from airflow_prs.airflow_side.step_facts import StepFacts
    from airflow_prs.live.snapshot import Snapshot

_MOST_OUTCOMES: Final = 250_000
"""A page is short rather than reading shards with more outcomes than this, some 20 MB, unless one shard has more."""
_MOST_ITEMS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePage:
    """
    Some of the mini-batches that failed for good, in input order.

    :param total: how many there are in all.
    :param failures: each with its failed tries, oldest first.
    """

    total: int
    failures: tuple[tuple[MiniBatch, tuple[FailedTry, ...]], ...]


def read_failures(snapshot: Snapshot, offset: int, limit: int) -> FailurePage:
    """
    Return a page of the failed mini-batches; only shards with failures on this page are read.

    :param offset: how many to leave out.
    :param limit: how many to return at most.
    """
    committed = read_result(snapshot.folder, snapshot.settings)
    return FailurePage(total=committed.progress.failed, failures=tuple(_failures(committed, offset, offset + limit)))


def _failures(committed: Committed, first: int, end: int) -> Iterator[tuple[MiniBatch, tuple[FailedTry, ...]]]:
    begin, outcomes_read = 0, 0
    for state in committed.states:
        count = state.progress.failed
        if count and begin + count > first:
            outcomes_read += state.progress.done
            outcomes = committed.outcomes(state)
            failed = outcomes["index"][outcomes["status"] != TryStatus.RUN_DONE].tolist()
            indices = failed[max(0, first - begin) : end - begin]
            tries = committed.tries(state).find(indices)
            for mini_batch in committed.folder.select_mini_batches(indices):
                yield mini_batch, tuple(tries.get(mini_batch.index, ()))
        begin += count
        if begin >= end or outcomes_read > _MOST_OUTCOMES:
            return


def describe_failures(facts: StepFacts, page: FailurePage, *, has_tracebacks: bool) -> dict[str, Any]:
    """
    Return a page of failures as plain values.

    :param has_tracebacks: whether to show tracebacks and where logs are.
    """
    return {
        "total": page.total,
        "failures": [
            {
                "mini_batch": mini_batch.index,
                "items": [str(piece) for piece in mini_batch.pieces[:_MOST_ITEMS]],
                "item_count": mini_batch.items,
                "tries": [_plain(facts, failed, has_tracebacks=has_tracebacks) for failed in tries],
            }
            for mini_batch, tries in page.failures
        ],
    }


def _plain(facts: StepFacts, failed: FailedTry, *, has_tracebacks: bool) -> dict[str, Any]:
    shard, try_number = shard_and_try(failed.node)
    task_id = f"{facts.step}.mini_batches"
    log = f"{step_api(facts.dag_id, facts.run_id, facts.step)}/logs/{failed.node}/{failed.process}"
    return {
        "try": failed.try_number,
        "status": failed.status.name,
        "error": failed.error,
        "traceback": failed.traceback if has_tracebacks else None,
        "node": failed.node,
        "process": failed.process,
        "at": failed.started,
        "seconds": round(failed.duration_s, 3),
        "log": log if has_tracebacks and failed.log else None,
        "task": task_ref(facts.dag_id, facts.run_id, task_id, shard, try_number) if shard >= 0 else None,
    }
