"""The counts of a run, added up from its shards and judged epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_prs.records import Limits, Progress, Ruling, Shard, Verdict
from airflow_prs.run_folder.run_log import Abort
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.limits import judge


class RunCounts:
    """
    The counts of a run by the epochs of its shards' claims.

    A state that is taken changes only the sum of its epoch, so the cost does not grow with the number of shards.

    :param shards: the run's shards; none of them has a claim yet.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._states = {shard.number: ShardState(shard=shard) for shard in shards}
        self._sums: dict[Epoch | None, Progress] = {
            None: sum((state.progress for state in self._states.values()), Progress())
        }

    @property
    def states(self) -> list[ShardState]:
        """The states that were taken last, in the order of the shards."""
        return list(self._states.values())

    def state(self, number: int) -> ShardState:
        """Return the state of a shard that was taken last."""
        return self._states[number]

    def take(self, state: ShardState) -> None:
        """Replace the state of a shard."""
        before = self._states[state.shard.number]
        if state is before:
            return
        self._states[state.shard.number] = state
        self._sums[before.epoch] -= before.progress
        self._sums[state.epoch] = self._sums.get(state.epoch, Progress()) + state.progress

    @property
    def epochs(self) -> list[Epoch]:
        """The epochs of claims, newest first."""
        found = (epoch for epoch, counts in self._sums.items() if epoch is not None and counts.total)
        return sorted(found, reverse=True)

    @property
    def total(self) -> Progress:
        """The counts of all shards."""
        return sum(self._sums.values(), Progress())

    def since(self, first: Epoch) -> Progress:
        """Return the counts of the shards with a claim of an epoch or a newer one; of the others only the totals."""
        return sum(
            (
                counts if epoch is not None and epoch >= first else _totals(counts)
                for epoch, counts in self._sums.items()
            ),
            Progress(),
        )

    def without(self, numbers: Iterable[int]) -> Progress:
        """Return the counts of all shards but some; of these only the totals."""
        left_out = sum((self._states[number].progress for number in numbers), Progress())
        return self.total - left_out + _totals(left_out)


def _totals(counts: Progress) -> Progress:
    return Progress(total=counts.total, items_total=counts.items_total)


def find_abort(counts: RunCounts, limits: Limits, aborted: Epoch | None) -> Abort | None:
    """
    Return the abort that follows from the counts while shards can run; None: no threshold is exceeded.

    Each epoch that has claims is judged by the counts since then, the newest first. After a clear, shards that were
    cleared too but have not started again still show their old failures: an epoch does not count those of older ones.

    :param aborted: the newest epoch that has an abort; it and older ones need no other. None: there is none.
    """
    for epoch in counts.epochs:
        if aborted is not None and epoch <= aborted:
            break
        if (verdict := exceeded(counts.since(epoch), limits)) is not None:
            return Abort(verdict=verdict, epoch=epoch)
    return None


def exceeded(progress: Progress, limits: Limits) -> Verdict | None:
    """Return the verdict on counts that exceed a threshold; None: they exceed none."""
    verdict = judge(progress, limits)
    return verdict if verdict.ruling is Ruling.ABORT else None
