"""The mini-batches of a run that have failed, or have left items out, with these items and the failed tries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_prs.records import FailedTry, MiniBatch, TryStatus

if TYPE_CHECKING:
    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.shard_log import ShardState

Spans = Sequence[tuple[int, int]]
"""Items by their positions in a mini-batch: first, and one past the last one, of each stretch."""

FAILED_STRETCH = 512
"""Number of failed mini-batches whose tries are in memory at the same time."""


def find_failures(committed: Committed, state: ShardState) -> Iterator[tuple[MiniBatch, Spans, list[FailedTry]]]:
    """
    Yield each mini-batch of a shard that has failed, or that was split and has left items out.

    :return: with it the stretches of its items that failed, and its failed tries.
    """
    if not state.progress.items_failed:
        return
    outcomes = committed.outcomes(state)
    has_failed = outcomes["status"] != TryStatus.RUN_DONE
    failed = set(outcomes["index"][has_failed].tolist())
    suspected = outcomes["index"][has_failed | (outcomes["succeeded"] < outcomes["items"])].tolist()
    tries = committed.tries(state)
    for start in range(0, len(suspected), FAILED_STRETCH):
        found = tries.find(suspected[start : start + FAILED_STRETCH])
        # If run() has returned fewer elements than items, nobody knows which items failed.
        spans = {
            index: [span for one in found.get(index, []) for span in one.spans]
            for index in suspected[start : start + FAILED_STRETCH]
        }
        indices = [index for index in spans if spans[index] or index in failed]
        for mini_batch in committed.folder.select_mini_batches(indices):
            index = mini_batch.index
            part = [(0, mini_batch.items)] if index in failed else spans[index]
            yield mini_batch, part, found.get(index, [])
