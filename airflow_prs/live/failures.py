"""Failed mini-batches, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.airflow_side.addresses import step_api, task_ref
from airflow_prs.live.nodes import shard_and_try
from airflow_prs.records import FailedTry, MiniBatch
from airflow_prs.run_folder.committed import read_result
from airflow_prs.run_folder.failures import find_failures
from airflow_prs.step_tasks import MINI_BATCHES, task_of

if TYPE_CHECKING:
    from airflow_prs.airflow_side.step_facts import StepFacts
    from airflow_prs.live.snapshot import Snapshot

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
    total, read_for_page, read_to_count = 0, 0, 0
    shown: list[tuple[MiniBatch, tuple[FailedTry, ...]]] = []
    for state in committed.states:
        count = state.progress.failed
        is_shown = count > 0 and total < end and total + count > offset and read_for_page <= _MOST_OUTCOMES
        is_counted = is_split and state.progress.items_failed > 0 and read_to_count <= _MOST_OUTCOMES
        if is_shown or is_counted:
            found: Iterable[tuple[MiniBatch, Any, list[FailedTry]]] = find_failures(committed, state)
            if is_counted:
                found = list(found)
                count = len(found)
                read_to_count += state.progress.done
            else:
                read_for_page += state.progress.done
            on_page = islice(found, max(0, offset - total), max(0, end - total))
            shown += [(mini_batch, tuple(tries)) for mini_batch, _, tries in on_page]
        total += count
    return FailurePage(total=total, failures=tuple(shown))


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
    task_id = task_of(facts.step, MINI_BATCHES)
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
