"""A run's counts gathered and judged: what the gatekeeper, the nodes and merge share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_prs.records import Limits, Manifest, Predecessor, Progress, Ruling, StoredVerdict, Verdict
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.thresholds.limits import judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What follows from what is committed now.

    :param verdict: the ruling.
    :param progress: the counts that it was ruled from.
    :param counted: shard number to the attempt and committed bytes that were counted.
    :param counted_loans: likewise for the loans of that attempt.
    :param set_aside: verdicts that whoever judges has set aside.
    """

    verdict: Verdict
    progress: Progress
    counted: Mapping[int, Predecessor]
    counted_loans: Mapping[int, tuple[Predecessor, ...]]
    set_aside: frozenset[str] = frozenset()

    @property
    def is_abort(self) -> bool:
        """Whether a threshold is exceeded."""
        return self.verdict.ruling is Ruling.ABORT


def judge_run(
    folder: RunFolder, manifest: Manifest, limits: Limits, *, set_aside: frozenset[str], is_final: bool
) -> Judgement:
    """
    Read all shards and judge them.

    :param set_aside: verdicts that whoever judges has set aside.
    :param is_final: whether no shard can run any more; see judge_states.
    """
    states = [folder.read_shard(shard) for shard in manifest.shards]
    return judge_states(states, limits, set_aside=set_aside, is_final=is_final)


def judge_states(states: list[ShardState], limits: Limits, *, set_aside: frozenset[str], is_final: bool) -> Judgement:
    """
    Judge what was read.

    After a clear, shards that were cleared too but have not begun again still show their old failures. So in mid-run
    whoever has set a verdict aside counts only shards that have set it aside as well; the others count when no shard
    can run any more.
    """
    counts = [state.progress if is_final or _has_set_aside(state, set_aside) else _untouched(state) for state in states]
    progress = sum(counts, Progress())
    links = {
        state.shard.number: state.newest_links
        for state in states
        if state.claim is not None and (is_final or _has_set_aside(state, set_aside))
    }
    return Judgement(
        verdict=judge(progress, limits),
        progress=progress,
        counted={number: found[0] for number, found in links.items()},
        counted_loans={number: found[1:] for number, found in links.items() if found[1:]},
        set_aside=set_aside,
    )


def uphold(folder: RunFolder, judgement: Judgement, *, author: str, attempt: str) -> StoredVerdict:
    """Write down a verdict, so that everybody else is bound by it."""
    return folder.write_verdict(
        judgement.verdict,
        author=author,
        attempt=attempt,
        counted=judgement.counted,
        counted_loans=judgement.counted_loans,
        set_aside=judgement.set_aside,
    )


def _has_set_aside(state: ShardState, set_aside: frozenset[str]) -> bool:
    return not set_aside or (state.claim is not None and set_aside.issubset(state.claim.set_aside))


def _untouched(state: ShardState) -> Progress:
    return Progress(total=state.shard.count, items_total=state.shard.items)
