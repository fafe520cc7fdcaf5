"""Failed mini-batches, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.live.addresses import step_api, task_ref
from airflow_prs.live.nodes import shard_and_try
from airflow_prs.records import FailedTry, MiniBatch, TryStatus
from airflow_prs.run_folder.committed import Committed, read_result

if TYPE_CHECKING:
    from airflow_prs.airflow_side.step_facts import StepFacts
    from airflow_prs.live.snapshot import Snapshot
    from airflow_prs.run_folder.shard_log import ShardState

_MOST_OUTCOMES: Final = 250_000
"""A page is short rather than reading shards with more outcomes than this, some 20 MB, unless one shard has more."""
_MOST_ITEMS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePage:
    """
    Some of the mini-batches that failed for good, or have left items out, in input order.

    :param total: how many there are in all.
    :param failures: each with its failed tries, oldest first.
    """

    total: int
    failures: tuple[tuple[MiniBatch, tuple[FailedTry, ...]], ...]


def read_failures(snapshot: Snapshot, offset: int, limit: int) -> FailurePage:
    """
    Return a page of the failed mini-batches, and of those that were split and have left items out.

    Only shards with failures on this page are read. Where mini-batches are split, shards with failed items are read to
    count them, as far as the bound on outcomes allows; of the others only what failed entirely counts.

    :param offset: how many to leave out.
    :param limit: how many to return at most.
    """
    committed, end = read_result(snapshot.folder, snapshot.settings), offset + limit
    is_split = snapshot.settings.config.bisect_failed_mini_batches
    total, outcomes_read, shown = 0, 0, list[tuple[MiniBatch, tuple[FailedTry, ...]]]()
    for state in committed.states:
        count = state.progress.failed
        is_shown = count > 0 and total < end and total + count > offset
        if outcomes_read <= _MOST_OUTCOMES and (is_shown or (is_split and state.progress.items_failed)):
            outcomes_read += state.progress.done
            indices = _failed(committed, state, is_split=is_split)
            count = len(indices)
            shown += _with_tries(committed, state, indices[max(0, offset - total) : max(0, end - total)])
        total += count
    return FailurePage(total=total, failures=tuple(shown))


def _failed(committed: Committed, state: ShardState, *, is_split: bool) -> list[int]:
    outcomes = committed.outcomes(state)
    mask = outcomes["status"] != TryStatus.RUN_DONE
    if is_split:
        mask |= outcomes["succeeded"] < outcomes["items"]
    return list(outcomes["index"][mask].tolist())


def _with_tries(
    committed: Committed, state: ShardState, indices: list[int]
) -> Iterator[tuple[MiniBatch, tuple[FailedTry, ...]]]:
    if not indices:
        return
    tries = committed.tries(state).find(indices)
    for mini_batch in committed.folder.select_mini_batches(indices):
        yield mini_batch, tuple(tries.get(mini_batch.index, ()))


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
                **_describe_items(mini_batch, tries),
                "tries": [_plain(facts, failed, has_tracebacks=has_tracebacks) for failed in tries],
            }
            for mini_batch, tries in page.failures
        ],
    }


def _describe_items(mini_batch: MiniBatch, tries: Sequence[FailedTry]) -> dict[str, Any]:
    """Return the items of a mini-batch; of one that was split, those that failed."""
    if spans := [span for failed in tries for span in failed.spans]:
        items = [item for failed in tries if failed.spans for item in failed.items]
        return {"items": items[:_MOST_ITEMS], "item_count": sum(end - begin for begin, end in spans)}
    return {"items": [str(piece) for piece in mini_batch.pieces[:_MOST_ITEMS]], "item_count": mini_batch.items}


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
