"""Looks for reasons to stop a node, on a timer, also while every process is inside run()."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Manifest, Shard
from airflow_prs.run_folder.attempt_records import StoredVerdict
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.thresholds.watch import Watch

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
        self._watch = Watch(
            folder=folder,
            manifest=manifest,
            limits=limits,
            author=f"shard-{shard.number:05d}",
            attempt=attempt.claim.attempt,
            set_aside=frozenset(attempt.claim.set_aside),
        )
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

    def look(self) -> StoredVerdict | None:
        """
        Look once.

        :return: the verdict that binds this node; it is written now if the counts exceed a threshold.
        :raises SupersededError: if a later attempt has begun.
        :raises OrphanedError: if Airflow's supervisor of this task is gone.
        """
        began = time.monotonic()
        self._refuse_to_go_on()
        self._read(_OTHERS_PER_LOOK)
        stored = self._watch.standing() or self._judge()
        if stored is None:
            self._looked_at = time.monotonic()
            self._look_took_s = self._looked_at - began
        return stored

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
            self._states[other.number] = self._watch.folder.read_shard(other)

    def _judge(self) -> StoredVerdict | None:
        self._states[self._shard.number] = self._attempt.state
        if not self._watch.judge(list(self._states.values())).is_abort:
            return None
        # Another shard may have been cleared since it was read: judge what is stored now.
        return self._watch.look().verdict

    def _in_turn(self) -> Iterator[Shard]:
        shards, own = self._watch.manifest.shards, self._shard.number
        return itertools.cycle((*shards[own + 1 :], *shards[:own]))
