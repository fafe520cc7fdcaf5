"""Looks for reasons to stop a node, on a timer, also while every process is inside run()."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Manifest
from airflow_prs.run_folder.attempts import Attempt, superseded
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import Abort
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.thresholds.watch import Watch

_OWN, _OTHERS, _REQUESTS = range(3)
"""The turn of what a look reads, see Intervals."""
_OTHERS_AT_FIRST = 32
_BLIND_S = 5.0


class OrphanedError(SupersededError):
    """Airflow's supervisor of this task is gone."""


class Watcher:
    """
    Looks whether a node should stop.

    Each look reads the run log and a few of the other shards, in turn, starting with the one after its own. So the cost
    of all nodes together is linear in the number of shards.

    :param limits: the limits of the execution; newer ones in the run log replace them.
    :param is_orphaned: whether Airflow's supervisor of this task is gone.
    """

    def __init__(
        self,
        folder: RunFolder,
        manifest: Manifest,
        attempt: Attempt,
        *,
        limits: Limits,
        is_orphaned: Callable[[], bool],
    ) -> None:
        self._watch = Watch(folder, manifest, limits, author=attempt.writer.node, epoch=attempt.claim.epoch)
        self._attempt = attempt
        self._shard = attempt.shard
        self._own_number = attempt.number
        self._own_before: dict[int, int] = {}
        """Number of the own last record when another shard was read."""
        self._is_orphaned = is_orphaned
        shards, own = manifest.shards, attempt.shard.number
        in_turn = (*shards[own + 1 :], *shards[:own])
        self._other_count = len(in_turn)
        self._others = itertools.cycle(in_turn)
        self._intervals = folder.intervals
        self._looks = 0
        self._looked_at = time.monotonic()
        self._look_took_s = 0.0
        self._read(_OTHERS_AT_FIRST)

    @property
    def limits(self) -> Limits:
        """The newest limits, as of the last look."""
        return self._watch.limits

    @property
    def others(self) -> list[ShardState]:
        """The other shards as they were last read."""
        return [state for state in self._watch.counts.states if state.shard.number != self._shard.number]

    @property
    def states(self) -> list[ShardState]:
        """All shards of the manifest: this node's own as it is, the others as they were last read."""
        own = [] if self._shard.is_borrowing else [self._attempt.state]
        return [*own, *self.others]

    @property
    def is_blind(self) -> bool:
        """
        Whether the last look is so old that something may have happened that forbids more work.

        That is so after this process was stopped for a while: another attempt may have claimed the shard.
        """
        return time.monotonic() - self._looked_at > _BLIND_S + 3 * self._look_took_s

    @property
    def is_turn_of_requests(self) -> bool:
        """Whether the requests to this node are to be read after this look."""
        return self._intervals.is_turn(self._looks, _REQUESTS)

    def look(self) -> Abort | None:
        """
        Look once.

        :return: the abort that binds this node; it is written now if the counts exceed a threshold.
        :raises SupersededError: if a later attempt has begun.
        :raises OrphanedError: if Airflow's supervisor of this task is gone.
        """
        began = time.monotonic()
        self._looks += 1
        self._refuse_to_go_on()
        if self._intervals.is_turn(self._looks, _OTHERS):
            self._read(self._intervals.others)
        abort = self._watch.binding() or self._judge()
        if abort is None:
            self._looked_at = time.monotonic()
            self._look_took_s = self._looked_at - began
        return abort

    def _refuse_to_go_on(self) -> None:
        if self._is_orphaned():
            raise OrphanedError("the Airflow process that watched over this task is gone, so this node ends itself.")
        if not self._intervals.is_turn(self._looks, _OWN):
            return
        before, self._own_number = self._own_number, self._attempt.number
        # A commit since the last turn has shown as much.
        if self._own_number == before and not self._attempt.is_newest():
            raise superseded(self._shard)

    def _read(self, most: int) -> None:
        shards = list(itertools.islice(self._others, min(most, self._other_count)))
        own = self._attempt.number
        # Nodes of a run commit at about the same pace.
        new = {shard.number: own - self._own_before.get(shard.number, own) for shard in shards}
        self._own_before |= dict.fromkeys(new, own)
        self._watch.read(shards, new)

    def _judge(self) -> Abort | None:
        if not self._shard.is_borrowing:
            has_turn = self._intervals.is_turn(self._looks, _OTHERS)
            self._watch.counts.take(self._attempt.state if has_turn else self._attempt.known_state)
        if self._watch.find_abort() is None:
            return None
        # Another shard may have been cleared since it was read: judge what is stored now.
        return self._watch.look().abort
