"""What an attempt takes over from those before it: outcomes, counts, failed tries, and what one may have died of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.records import Progress, TryStatus
from airflow_prs.run_folder.outcomes import Content
from airflow_prs.run_folder.shard_log import ShardState

if TYPE_CHECKING:
    import numpy.typing as npt

GROUP: Final = 64
"""At most two groups of this size, or of the first window if that is larger, are in hand in a crowd of suspects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """
    What an attempt takes over from those before it.

    :param done: for each of the shard's mini-batches, by position, whether it has an outcome.
    :param failed: for each of them, whether it has failed.
    :param progress: the shard's counts.
    :param tries: index to the number of failed tries, for mini-batches that will be tried again.
    :param suspects: indices that an attempt before may have been working on when it died; they are tried first, alone.
    :param crowd: indices likewise, but too many for a commit before each. They are handed out first, two groups at a
        time. If the node dies again, only those in hand then are suspect.
    :param group: size of a group.
    :param charged: the mini-batch that was being tried alone when the attempt before died, and the number of that try.
    """

    done: npt.NDArray[Any]
    failed: npt.NDArray[Any]
    progress: Progress
    tries: dict[int, int] = field(default_factory=dict)
    suspects: tuple[int, ...] = ()
    crowd: tuple[int, ...] = ()
    group: int = GROUP
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


def inherit(state: ShardState, parts: Iterable[Content], *, is_reopening: bool, window: int) -> Inheritance:
    """
    Return what a claim's attempt takes over.

    :param state: the state before, with the loans that were ended.
    :param parts: its content, of which one part at a time is kept in memory.
    :param is_reopening: whether failed mini-batches get fresh tries; those that killed their node are tried alone.
    :param window: how many mini-batches may be handed out before the first commit.
    """
    import numpy as np

    shard = state.shard
    in_hand, done, failed = (np.zeros(shard.count, bool) for _ in range(3))
    counted = np.zeros(shard.count, np.uint32)
    for first, end in _in_hand(state):
        in_hand[first - shard.first : end - shard.first] = True
    progress = Progress(total=shard.count, items_total=shard.items)
    for part in parts:
        in_hand[part.outcomes["index"] - shard.first] = part.outcomes["status"] == TryStatus.NODE_DIED
        content = part.without_failures() if is_reopening else part
        places = content.outcomes["index"] - shard.first
        done[places], failed[places] = True, content.outcomes["status"] != TryStatus.RUN_DONE
        np.add.at(counted, content.tries["index"] - shard.first, 1)
        progress += _progress(content.outcomes)
    failing = np.flatnonzero((counted > 0) & ~done)
    tries = dict(zip((failing + shard.first).tolist(), counted[failing].tolist(), strict=True))
    progress += Progress(handed_out=len(tries), failing=len(tries))
    suspects = tuple((np.flatnonzero(in_hand & ~done) + shard.first).tolist())
    # The tries of an older epoch do not count, and neither does the one that killed the node.
    is_charging = state.is_running and not is_reopening
    charged = state.record.trying if is_charging and state.record is not None else None
    if charged is not None and charged[0] not in suspects:
        charged = None
    group, crowd = max(GROUP, window), ()
    # One group is worked on while a commit grants the next.
    if len(suspects) > 2 * group:
        crowd, suspects = suspects, () if charged is None else charged[:1]
    return Inheritance(
        done=done,
        failed=failed,
        progress=progress,
        tries=tries,
        suspects=suspects,
        crowd=crowd,
        group=group,
        charged=charged,
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


def _progress(outcomes: npt.NDArray[Any]) -> Progress:
    succeeded = outcomes[outcomes["status"] == TryStatus.RUN_DONE]
    return Progress(
        handed_out=len(outcomes),
        succeeded=len(succeeded),
        failed=len(outcomes) - len(succeeded),
        items_succeeded=int(outcomes["succeeded"].sum()),
        items_failed=int((outcomes["items"] - outcomes["succeeded"]).sum()),
        elements=int(succeeded["returned"].sum()),
        output_bytes=int(succeeded["length"].sum()),
    )


def first_grant(state: ShardState, inheritance: Inheritance, window: int) -> int:
    """
    Return the index below which mini-batches may be handed out before the first commit.

    No others are handed out while suspects are left, so the previous limit stays if the attempt before has died. For a
    crowd of suspects it is lowered.
    """
    if inheritance.suspects and not inheritance.crowd:
        return state.granted if state.is_running else state.shard.first
    import numpy as np

    pending = np.flatnonzero(~inheritance.done)
    return state.shard.end if len(pending) <= window else int(pending[window]) + state.shard.first
