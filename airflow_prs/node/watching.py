"""Looks for reasons to stop a node, on a timer, also while every process is inside run()."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Manifest, Progress, Ruling, Shard
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import Abort, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.thresholds.limits import judge

LOOK_S = 0.5
_OTHERS_PER_LOOK = 4
_OTHERS_AT_FIRST = 32
_BLIND_S = 5.0


class OrphanedError(SupersededError):
    """Airflow's supervisor of this task is gone."""


class Watcher:
    """
    Looks whether a node should stop.

    Each look reads the verdicts and a few of the other shards, in turn, starting with the one after its own. So the
    cost of all nodes together is linear in the number of shards.

    :param is_orphaned: whether Airflow's supervisor of this task is gone.
    """

    def __init__(
        self,
        folder: RunFolder,
        manifest: Manifest,
        attempt: Attempt,
        *,
        shard: Shard,
        limits: Limits,
        is_orphaned: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._limits = limits
        self._log = folder.run_log()
        self._attempt = attempt
        self._shard = shard
        self._is_orphaned = is_orphaned
        self._states = {shard.number: ShardState(shard=shard) for shard in manifest.shards}
        self._others = self._in_turn()
        self._looked_at = time.monotonic()
        self._look_took_s = 0.0
        self._read(_OTHERS_AT_FIRST)

    @property
    def others(self) -> list[ShardState]:
        """The other shards as they were last read."""
        return [state for number, state in list(self._states.items()) if number != self._shard.number]

    @property
    def states(self) -> list[ShardState]:
        """All shards: this node's own as it is, the others as they were last read."""
        return [self._attempt.state, *self.others]

    @property
    def is_blind(self) -> bool:
        """
        Whether the last look is so old that something may have happened that forbids more work.

        That is so after this process was stopped for a while: another attempt may have claimed the shard.
        """
        return time.monotonic() - self._looked_at > _BLIND_S + 3 * self._look_took_s

    def look(self) -> Abort | None:
        """
        Look once.

        :return: the verdict that binds this node; it is written now if the counts exceed a threshold.
        :raises SupersededError: if a later attempt has begun.
        :raises OrphanedError: if Airflow's supervisor of this task is gone.
        """
        began = time.monotonic()
        self._refuse_to_go_on()
        self._read(_OTHERS_PER_LOOK)
        self._log.follow()
        abort = self._log.binding(self._attempt.claim.epoch) or self._judge()
        if abort is None:
            self._looked_at = time.monotonic()
            self._look_took_s = self._looked_at - began
        return abort

    def _refuse_to_go_on(self) -> None:
        if self._is_orphaned():
            raise OrphanedError("the Airflow process that watched over this task is gone, so this node ends itself.")
        if not self._attempt.is_newest():
            raise SupersededError(
                f"a later try of shard {self._shard.number} has begun. This one stops; the later one does what is not "
                "committed yet."
            )

    def _read(self, most: int) -> None:
        for other in itertools.islice(self._others, min(most, len(self._states) - 1)):
            self._states[other.number] = self._folder.read_shard(other, self._states[other.number])

    def _judge(self) -> Abort | None:
        self._states[self._shard.number] = self._attempt.state
        if self._decide() is None:
            return None
        self._log.append(self._decide)
        return self._log.binding(self._attempt.claim.epoch)

    def _decide(self) -> RunRecord | None:
        epoch = self._attempt.claim.epoch
        counts = [
            state.progress
            if state.epoch is not None and state.epoch >= epoch
            else Progress(total=state.shard.count, items_total=state.shard.items)
            for state in self._states.values()
        ]
        verdict = judge(sum(counts, Progress()), self._log.limits or self._limits)
        if verdict.ruling is not Ruling.ABORT or self._log.binding(epoch) is not None:
            return None
        abort = Abort(verdict=verdict, epoch=epoch)
        return RunRecord(kind=RunRecordKind.ABORT, author=f"shard-{self._shard.number:05d}", abort=abort)

    def _in_turn(self) -> Iterator[Shard]:
        shards, own = self._manifest.shards, self._shard.number
        return itertools.cycle((*shards[own + 1 :], *shards[:own]))
