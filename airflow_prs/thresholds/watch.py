"""Looks at a run, for the gatekeeper, its trigger and the nodes. Whoever sees a threshold exceeded aborts the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_prs.records import Limits, Manifest, Progress, Shard
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import Abort, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.judging import RunCounts, exceeded, find_abort

CERTAIN_AFTER_S = 10.0
"""
Seconds between two looks at shards that Airflow runs, before they abort a newer epoch than their own.

A shard that was cleared and has just started shows its old failures until it claims.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    What one look at a run shows.

    :param abort: what aborts the run; None: nothing does.
    :param progress: how far it is.
    """

    abort: Abort | None
    progress: Progress


class ShardTasks(Protocol):
    """What Airflow says of the shards' task instances; a shard that is in neither set waits to run, perhaps again."""

    @property
    def running(self) -> frozenset[int]:
        """The numbers of the shards that are running."""
        ...

    @property
    def ended(self) -> frozenset[int]:
        """The numbers of the shards that have ended and are not retried."""
        ...


class Watch:
    """
    What the gatekeeper or a node knows of a run.

    :param limits: the limits of the execution; newer ones in the run log replace them.
    :param author: ``gatekeeper``, or the name of the node.
    :param epoch: the epoch of its attempt.
    :param clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        folder: RunFolder,
        manifest: Manifest,
        limits: Limits,
        *,
        author: str,
        epoch: Epoch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.epoch = epoch
        self.counts = RunCounts(manifest.shards)
        self._limits = limits
        self._author = author
        self._clock = clock
        self._run_log = folder.run_log()
        self._suspected_at: float | None = None

    @property
    def limits(self) -> Limits:
        """The newest limits, as of the last look."""
        return self._run_log.limits or self._limits

    @property
    def suspects_abort(self) -> bool:
        """Whether all shards but those that wait to run again exceed a threshold, which another look may confirm."""
        return self._suspected_at is not None

    def binding(self) -> Abort | None:
        """Read what is new in the run log, and return the oldest abort that binds this attempt."""
        self._run_log.follow()
        return self._run_log.binding(self.epoch)

    def read(self, shards: Iterable[Shard], new: Mapping[int, int] | None = None) -> None:
        """
        Read what is new of some shards: one request each, and another one for each open loan.

        :param new: how many new records to expect, by number of the shard; None: as many as the last time.
        """
        known = [(shard, self.counts.state(shard.number)) for shard in shards]
        if new is not None:
            known = [(shard, replace(state, new=new[shard.number])) for shard, state in known]
        for state in self.folder.read_shards(known):
            self.counts.take(state)

    def find_abort(self) -> Abort | None:
        """Return the abort that would follow from what was read so far; see judging.find_abort."""
        return find_abort(self.counts, self.limits, self._run_log.aborted)

    def look(self, tasks: ShardTasks | None = None) -> Look:
        """
        Judge the run by what is stored now, and abort it if this is the first to see a threshold exceeded.

        :param tasks: what Airflow says of the shards. All shards but those that wait to run again may exceed a
            threshold together, whatever their epochs: two looks with that, CERTAIN_AFTER_S apart, abort the newest
            epoch. None: Airflow was not asked.
        """

        def find() -> Abort | None:
            return self.find_abort() or (None if tasks is None else self._find_together(tasks))

        return self._look(find)

    def conclude(self, states: Iterable[ShardState]) -> Look:
        """
        Judge a run in which no shard can run any more: everything counts, whatever the epoch.

        :param states: the shards' states, from which to read on.
        """
        for state in states:
            self.counts.take(state)
        return self._look(lambda: self._abort_newest(self.counts.total))

    def _look(self, find: Callable[[], Abort | None]) -> Look:
        def make() -> RunRecord | None:
            # The run log was read just before, so these counts are no older than the limits and aborts in it.
            self.read(self.manifest.shards)
            abort = find()
            return None if abort is None else RunRecord(kind=RunRecordKind.ABORT, author=self._author, abort=abort)

        self._run_log.append(make)
        return Look(abort=self._run_log.binding(self.epoch), progress=self.counts.total)

    def _find_together(self, tasks: ShardTasks) -> Abort | None:
        abort = self._abort_newest(self.counts.without(self._waiting(tasks)))
        if abort is None:
            self._suspected_at = None
            return None
        now = self._clock()
        if self._suspected_at is None:
            self._suspected_at = now
        return abort if now - self._suspected_at >= CERTAIN_AFTER_S else None

    def _waiting(self, tasks: ShardTasks) -> Iterator[int]:
        running, ended = tasks.running, tasks.ended
        for state in self.counts.states:
            number = state.shard.number
            # A shard that runs although its newest attempt has ended is about to claim, or to end.
            is_running = number in running and state.closing is None
            if not is_running and number not in ended:
                yield number

    def _abort_newest(self, progress: Progress) -> Abort | None:
        newest = max([self.epoch, *self.counts.epochs])
        aborted = self._run_log.aborted
        if aborted is not None and aborted >= newest:
            return None
        verdict = exceeded(progress, self.limits)
        return None if verdict is None else Abort(verdict=verdict, epoch=newest)


def open_watch(folder: RunFolder, epoch: Epoch) -> Watch:
    """
    Return the watch of an attempt of the gatekeeper.

    :raises RunFolderError: if the run folder cannot be read here.
    """
    limits = folder.read_settings().config.limits
    return Watch(folder, folder.read_manifest(), limits, author="gatekeeper", epoch=epoch)
