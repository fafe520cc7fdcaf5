"""The run log: aborts, new limits, and the attempts of the gatekeeper. Everyone who works on a run follows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Verdict
from airflow_prs.run_folder.epochs import TaskTry, next_epoch
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.names import RUN_LOG
from airflow_prs.run_folder.shard_records import Epoch

if TYPE_CHECKING:
    from airflow_prs.store.port import Store


class RunRecordKind(str, Enum):
    """What a record of the run log says."""

    ABORT = "abort"
    LIMITS = "limits"
    GATEKEEPER = "gatekeeper"


class AbortKind(str, Enum):
    """Why a run is aborted, and what becomes of the calls of run() in flight."""

    THRESHOLD = "threshold"
    """A threshold is exceeded; nobody waits for run()."""
    CANCEL = "cancel"
    """A person has stopped the run; nobody waits for run()."""
    DRAIN = "drain"
    """A person lets the run come to an end: nothing more is handed out, and what run() still returns is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """
    The end of an epoch and of all older ones.

    :param verdict: why.
    :param epoch: it binds shards and gatekeepers of this epoch or an older one.
    """

    verdict: Verdict
    epoch: Epoch
    kind: AbortKind = AbortKind.THRESHOLD

    @property
    def is_drain(self) -> bool:
        """Whether calls of run() in flight may finish."""
        return self.kind is AbortKind.DRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class GatekeeperAttempt:
    """
    A try of the gatekeeper.

    :param epoch: its epoch.
    :param try_number: try number of the Airflow task.
    :param max_tries: max_tries of the Airflow task.
    :param has_trigger: whether it may wait in a trigger; otherwise it reschedules itself.
    """

    epoch: Epoch
    try_number: int
    max_tries: int = 0
    has_trigger: bool = True

    @property
    def order(self) -> tuple[int, int]:
        """Tries are ordered by execution of plan, then by try number."""
        return self.epoch.execution, self.try_number


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """
    The header of a record of the run log.

    :param kind: which of the values below is set.
    :param author: ``gatekeeper``, the name of a node, or of a person.
    :param id: random, so that no two records have the same bytes.
    :param at: when it was written, in seconds since the epoch (UTC).
    """

    kind: RunRecordKind
    author: str
    abort: Abort | None = None
    limits: Limits | None = None
    gatekeeper: GatekeeperAttempt | None = None
    id: str = ""
    at: float = 0.0


RUN_RECORD: JsonRecords[RunRecord] = JsonRecords(RunRecord)


class RunLog:
    """
    Follows the run log, and appends to it.

    :ivar limits: the newest limits; None: nobody has changed those of the execution.
    :ivar records: all records, oldest first.
    :ivar gatekeeper: the newest attempt of the gatekeeper; None: there is none yet.
    """

    def __init__(self, store: Store) -> None:
        self._log = Log(store, RUN_LOG)
        self.limits: Limits | None = None
        self.records: list[RunRecord] = []
        self.gatekeeper: GatekeeperAttempt | None = None

    def follow(self) -> None:
        """Read what is new; usually one request."""
        for record in self._log.read_all(len(self.records)):
            self._take(RUN_RECORD.validate_json(record.header))

    def binding(self, epoch: Epoch) -> Abort | None:
        """
        Return the oldest abort that binds an epoch, as of the last look; None: there is none.

        A drain comes last: whoever drains a run may still cancel it.
        """
        aborts = (record.abort for record in self.records if record.abort is not None)
        binding = [abort for abort in aborts if abort.epoch >= epoch]
        return min(binding, key=lambda abort: abort.is_drain, default=None)

    @property
    def aborted(self) -> Epoch | None:
        """The newest epoch that is bound by an abort, as of the last look; None: there is none."""
        return max((record.abort.epoch for record in self.records if record.abort is not None), default=None)

    def append(self, make: Callable[[], RunRecord | None]) -> RunRecord | None:
        """
        Append a record that is decided with knowledge of all records before it.

        :param make: called again whenever there were new records; returns None if there is nothing to append.
        """
        while True:
            self.follow()
            record = make()
            if record is None:
                return None
            record = replace(record, id=uuid4().hex, at=time.time())
            if self._log.append(len(self.records), RUN_RECORD.dump_json(record)):
                self._take(record)
                return record

    def open_gatekeeper(self, task_try: TaskTry, *, has_trigger: bool = True) -> GatekeeperAttempt:
        """
        Return the record of a try of the gatekeeper. A try that is executed again finds its own.

        :param has_trigger: False: from now on this try reschedules itself.
        :raises SupersededError: if a later try has begun.
        """

        def make() -> RunRecord | None:
            found = self.gatekeeper
            if found is not None and found.order > task_try.order:
                raise SupersededError("a later try of the gatekeeper has begun, so this one stops.")
            if found is not None and found.order == task_try.order:
                if has_trigger or not found.has_trigger:
                    return None
                opened = replace(found, has_trigger=False)
            else:
                opened = GatekeeperAttempt(
                    epoch=next_epoch(found, task_try, self.aborted),
                    try_number=task_try.try_number,
                    max_tries=task_try.max_tries or 0,
                    has_trigger=has_trigger,
                )
            return RunRecord(kind=RunRecordKind.GATEKEEPER, author="gatekeeper", gatekeeper=opened)

        self.append(make)
        if self.gatekeeper is None:
            raise AssertionError("the gatekeeper has a record from here on")
        return self.gatekeeper

    def _take(self, record: RunRecord) -> None:
        self.records.append(record)
        self.limits = record.limits or self.limits
        self.gatekeeper = record.gatekeeper or self.gatekeeper
