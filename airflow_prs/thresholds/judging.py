"""The counts of a run, added up from its shards and judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_prs.records import Limits, Progress, Ruling, Verdict
from airflow_prs.run_folder.attempt_records import Link
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.thresholds.limits import judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What follows from the counts of a run.

    :param verdict: the ruling.
    :param progress: the counts that it was ruled from.
    :param counted: shard number to the attempt and committed bytes that were counted.
    :param counted_loans: likewise for the loans of that attempt.
    """

    verdict: Verdict
    progress: Progress
    counted: Mapping[int, Link]
    counted_loans: Mapping[int, tuple[Link, ...]]

    @property
    def is_abort(self) -> bool:
        """Whether a threshold is exceeded."""
        return self.verdict.ruling is Ruling.ABORT


def judge_states(
    states: Iterable[ShardState], limits: Limits, *, set_aside: frozenset[str], is_final: bool
) -> Judgement:
    """
    Judge a run by the states of its shards.

    After a clear, shards that were cleared too but have not started again still show their old failures. So while
    shards can run, an attempt that has set verdicts aside counts only the shards that have set them aside as well.

    :param set_aside: verdicts that the attempt has set aside.
    :param is_final: whether no shard can run any more, so that all count.
    """
    counts, links = [], {}
    for state in states:
        if is_final or _has_set_aside(state, set_aside):
            counts.append(state.progress)
            if state.claim is not None:
                links[state.shard.number] = state.newest_links
        else:
            counts.append(Progress(total=state.shard.count, items_total=state.shard.items))
    progress = sum(counts, Progress())
    return Judgement(
        verdict=judge(progress, limits),
        progress=progress,
        counted={number: found[0] for number, found in links.items()},
        counted_loans={number: found[1:] for number, found in links.items() if found[1:]},
    )


def _has_set_aside(state: ShardState, set_aside: frozenset[str]) -> bool:
    return not set_aside or (state.claim is not None and set_aside.issubset(state.claim.set_aside))
