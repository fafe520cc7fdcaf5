"""What an attempt takes over from those before it: outcomes, counts, failed tries, and what one may have died of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_prs.records import Progress, Shard, TryStatus
from airflow_prs.run_folder.outcomes import Content
from airflow_prs.run_folder.shard_log import ShardState

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """
    What an attempt takes over from those before it.

    :param done: for each of the shard's mini-batches, by position, whether it has an outcome.
    :param failed: for each of them, whether it has failed.
    :param progress: the shard's counts.
    :param tries: index to the number of failed tries, for mini-batches that will be tried again.
    :param suspects: indices that an attempt before may have been working on when it died; they are tried first, alone.
    :param charged: the mini-batch that was being tried alone when the attempt before died, and the number of that try.
    """

    done: npt.NDArray[Any]
    failed: npt.NDArray[Any]
    progress: Progress
    tries: dict[int, int] = field(default_factory=dict)
    suspects: tuple[int, ...] = ()
    charged: tuple[int, int] | None = None

    @property
    def suspect_ranges(self) -> tuple[tuple[int, int], ...]:
        """The suspects as ranges (first, end)."""
        ranges: list[tuple[int, int]] = []
        for index in self.suspects:
            is_next = bool(ranges) and ranges[-1][1] == index
            first = ranges.pop()[0] if is_next else index
            ranges.append((first, index + 1))
        return tuple(ranges)


def inherit(state: ShardState, content: Content, *, is_reopening: bool) -> Inheritance:
    """
    Return what a claim's attempt takes over.

    :param state: the state before, with the loans that were ended.
    :param is_reopening: whether failed mini-batches get fresh tries; those that killed their node are tried alone.
    """
    import numpy as np

    shard, outcomes = state.shard, content.outcomes
    in_hand = np.zeros(shard.count, bool)
    for first, end in _in_hand(state):
        in_hand[first - shard.first : end - shard.first] = True
    in_hand[outcomes["index"] - shard.first] = outcomes["status"] == TryStatus.NODE_DIED
    if is_reopening:
        outcomes = outcomes[outcomes["status"] == TryStatus.RUN_DONE]
    done, failed = np.zeros(shard.count, bool), np.zeros(shard.count, bool)
    places = outcomes["index"] - shard.first
    done[places], failed[places] = True, outcomes["status"] != TryStatus.RUN_DONE
    counted = Counter([] if is_reopening else content.tries["index"].tolist())
    tries = {index: count for index, count in counted.items() if not done[index - shard.first]}
    suspects = tuple((np.flatnonzero(in_hand & ~done) + shard.first).tolist())
    # The tries of an older epoch do not count, and neither does the one that killed the node.
    is_charging = state.is_running and not is_reopening
    charged = state.record.trying if is_charging and state.record is not None else None
    return Inheritance(
        done=done,
        failed=failed,
        progress=_progress(shard, outcomes, tries),
        tries=tries,
        suspects=suspects,
        charged=charged if charged is not None and charged[0] in suspects else None,
    )


def _in_hand(state: ShardState) -> Iterator[tuple[int, int]]:
    """
    Yield ranges of indices that an attempt or a borrower may have been working on when it died.

    What an attempt was to try alone stays suspect until it has an outcome.

    :param state: the state before, with the loans that were ended.
    """
    if state.claim is not None and not state.is_done:
        yield from state.claim.suspected
    if state.is_running:
        yield state.shard.first, state.granted
    yield from ((loan.loan.first, loan.granted) for loan in state.loans if loan.is_suspect)


def _progress(shard: Shard, outcomes: npt.NDArray[Any], tries: dict[int, int]) -> Progress:
    succeeded = outcomes[outcomes["status"] == TryStatus.RUN_DONE]
    return Progress(
        total=shard.count,
        handed_out=len(outcomes) + len(tries),
        succeeded=len(succeeded),
        failed=len(outcomes) - len(succeeded),
        failing=len(tries),
        items_total=shard.items,
        items_succeeded=int(outcomes["succeeded"].sum()),
        items_failed=int((outcomes["items"] - outcomes["succeeded"]).sum()),
        elements=int(succeeded["returned"].sum()),
        output_bytes=int(succeeded["length"].sum()),
    )


def first_grant(state: ShardState, inheritance: Inheritance, window: int) -> int:
    """
    Return the index below which mini-batches may be handed out before the first commit.

    No others are handed out while suspects are left, so the previous limit stays if the attempt before has died.
    """
    if inheritance.suspects:
        return state.granted if state.is_running else state.shard.first
    import numpy as np

    pending = np.flatnonzero(~inheritance.done)
    return state.shard.end if len(pending) <= window else int(pending[window]) + state.shard.first
