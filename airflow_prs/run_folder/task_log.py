"""
The task log: what plans planned and merges published, over all executions of plan in a run.

    plan         a plan has begun
    execution    its folder is complete; the number of this record is the number of the execution
    abandoned    a folder turned out to be damaged, so plan does not continue it
    merge        a merge has begun, and names the upload that it will write
    publishing   the upload is complete and appears next
    published    the upload has appeared; up to which record of each shard it goes
    rows_deleted the rows behind a published result are deleted from now on
    removing     the run is being removed, this log last; no record follows

Only the order of the records decides. So clocks, names of plans and try numbers of different executions never matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field, ValidationError

from airflow_prs.errors import DamagedError, RunFolderError, SupersededError
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.log import Log, Record
from airflow_prs.store.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """
    What all records have.

    :param process: random id of the process that appended it.
    :param at: when, in seconds since the epoch (UTC); for readers, it decides nothing.
    """

    process: str
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanClaim(_Record):
    """
    A plan has begun; earlier ones append no execution any more.

    :param plan: id of the plan, which is the same if one try is executed twice.
    """

    kind: Literal["plan"] = "plan"
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(_Record):
    """
    An execution of plan: its folder is complete.

    :param folder: name of the folder, beside that of the log; several executions may continue one folder.
    :param terms: see RunSettings.terms.
    """

    kind: Literal["execution"] = "execution"
    folder: str
    terms: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned(_Record):
    """
    A folder is not continued any more.

    :param folder: its name.
    :param reason: one sentence.
    """

    kind: Literal["abandoned"] = "abandoned"
    folder: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeClaim(_Record):
    """
    A merge has begun; earlier ones publish nothing any more.

    :param execution: number of the execution that it was started for.
    :param try_number: number of its try.
    :param folder: folder of that execution.
    :param uploads: name of the upload by the key that it is going to replace; empty if there is nothing to write.
    """

    kind: Literal["merge"] = "merge"
    execution: int
    try_number: int
    folder: str
    uploads: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing(_Record):
    """
    The output of a merge is complete, and appears next.

    :param claim: number of the merge's claim.
    """

    kind: Literal["publishing"] = "publishing"
    claim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(_Record):
    """
    The output of a merge has appeared.

    :param claim: number of the merge's claim.
    :param positions: by number of each shard, the position in its log up to which the result goes.
    :param result: location of the result.
    :param status: status of the run in report.json.
    :param reports: folder of the reports, relative to the run folder.
    """

    kind: Literal["published"] = "published"
    claim: int
    positions: Mapping[int, int]
    result: str
    status: str
    reports: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDeleted(_Record):
    """
    The rows of a folder are deleted from now on, since its result is published.

    :param folder: its name.
    :param version: version of the published file, as the store has it; '': there is no such file.
    """

    kind: Literal["rows_deleted"] = "rows_deleted"
    folder: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removing(_Record):
    """The run is being removed; whoever finds this record may finish that."""

    kind: Literal["removing"] = "removing"


TaskRecord = PlanClaim | Execution | Abandoned | MergeClaim | Publishing | Published | RowsDeleted | Removing
_RECORD: JsonRecords[TaskRecord] = JsonRecords(Annotated[TaskRecord, Field(discriminator="kind")])


class History(list[TaskRecord]):
    """The records of a task log; the position of a record is its number."""

    def newest_execution(self, folder: str | None = None) -> int | None:
        """
        Return the number of the newest execution.

        :param folder: only of this folder; None: of any.
        """
        return self._last(lambda r: isinstance(r, Execution) and folder in {None, r.folder})

    def execution(self, number: int) -> Execution:
        """
        Return an execution by its number.

        :raises RunFolderError: if there is none.
        """
        record = self[number] if number < len(self) else None
        if not isinstance(record, Execution):
            raise RunFolderError(f"the task log has no execution {number}. Clear the plan task.")
        return record

    def why_abandoned(self, folder: str) -> str | None:
        """Return why a folder is not continued; None: it may be."""
        return next((r.reason for r in self if isinstance(r, Abandoned) and r.folder == folder), None)

    def rows_deleted(self, folder: str) -> RowsDeleted | None:
        """Return the record that the rows of a folder are deleted; None: they are not."""
        return next((r for r in self if isinstance(r, RowsDeleted) and r.folder == folder), None)

    @property
    def is_being_planned(self) -> bool:
        """Whether a plan has begun since the newest execution; it may have ended without one."""
        newest = self._last(lambda r: isinstance(r, (PlanClaim, Execution)))
        return newest is not None and isinstance(self[newest], PlanClaim)

    @property
    def is_being_removed(self) -> bool:
        """Whether all folders of the run are being removed."""
        return any(isinstance(record, Removing) for record in self)

    def plan_name(self, claim: int) -> str:
        """
        Return the id of a plan, with the number of its claim if a plan of this id has claimed before.

        So two plans never write to one folder, even if one try is executed twice.

        :param claim: number of its claim.
        """
        record = self[claim]
        plan = record.plan if isinstance(record, PlanClaim) else ""
        is_again = any(isinstance(earlier, PlanClaim) and earlier.plan == plan for earlier in self[:claim])
        return f"{plan}-{claim}" if is_again else plan

    def newest_claim(self) -> int | None:
        """Return the number of the newest claim of a merge."""
        return self._last(lambda r: isinstance(r, MergeClaim))

    def claim(self, number: int) -> MergeClaim:
        """
        Return the claim of a merge by its number.

        :raises RunFolderError: if there is none.
        """
        record = self[number]
        if not isinstance(record, MergeClaim):
            raise RunFolderError(f"record {number} of the task log is not the claim of a merge. Clear the plan task.")
        return record

    def newest_published(self, folder: str) -> Published | None:
        """Return the record of the newest result of a folder that a merge has published; None: there is none."""
        found = (r for r in reversed(self) if isinstance(r, Published) and self.claim(r.claim).folder == folder)
        return next(found, None)

    def _last(self, matches: Callable[[TaskRecord], bool]) -> int | None:
        return next((number for number in range(len(self) - 1, -1, -1) if matches(self[number])), None)


class TaskLog:
    """
    The task log of a run, as one process reads it and appends to it.

    :param prefix: prefix of the keys of its records; it ends with `/`.
    :ivar history: the records that it has read.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._log = Log(store, prefix)
        self._place = f"{store}/{prefix}"
        self.history = History()
        self.process = uuid4().hex

    def read(self) -> History:
        """
        Return all records.

        :raises RunFolderError: if one is damaged, or a newer version wrote it.
        """
        try:
            self.history.extend(map(_parse, self._log.read_all(len(self.history))))
        except DamagedError as error:
            # Plan reads it, too.
            raise RunFolderError(
                f"{error} Remove {self._place} before, the log of the run's plans and merges."
            ) from None
        return self.history

    def append(self, make: Callable[[History], TaskRecord]) -> int:
        """
        Append a record after all others, and return its number.

        :param make: returns the record, given all records before it; it may raise instead.
        :raises RunFolderError: if the run is being removed.
        """
        while True:
            if self.read().is_being_removed:
                raise RunFolderError(
                    f"{self._place} belongs to a run that `runs prune` is removing. Run that command again if it was "
                    "stopped, then clear the plan task to start over."
                )
            record, number = make(self.history), len(self.history)
            if self._log.append(number, _RECORD.dump_json(record)):
                self.history.append(record)
                return number

    def claim_plan(self, plan: str = "") -> int:
        """
        Append the claim of a plan, and return its number.

        :param plan: id of the plan.
        """
        return self.append(lambda _: PlanClaim(process=self.process, plan=plan))

    def append_execution(self, claim: int, *, folder: str, terms: Mapping[str, Any]) -> int:
        """
        Append an execution of plan, and return its number.

        :param claim: number of the plan's claim.
        :param folder: name of the folder, which is complete.
        :param terms: see RunSettings.terms.
        :raises SupersededError: if another plan has claimed since.
        """

        def make(history: History) -> Execution:
            if any(isinstance(record, PlanClaim) for record in history[claim + 1 :]):
                raise SupersededError(
                    f"plan has run again since, so this execution of it ends without an effect ({folder})."
                )
            return Execution(process=self.process, folder=folder, terms=terms)

        return self.append(make)

    def mark_removal(self, known: int) -> bool:
        """
        Append that the run is being removed, unless somebody has appended that before.

        :param known: how many records the caller has decided by.
        :return: False: there are others by now, so nothing was appended.
        """
        if self.read().is_being_removed:
            return True
        record = _RECORD.dump_json(Removing(process=self.process))
        return len(self.history) == known and self._log.append(known, record)

    def abandon(self, folder: str, reason: str) -> None:
        """Append that a folder is not continued any more."""
        self.append(lambda _: Abandoned(process=self.process, folder=folder, reason=reason))


def _parse(record: Record) -> TaskRecord:
    try:
        return _RECORD.validate_json(record.header)
    except ValidationError as error:
        raise RunFolderError(
            f"record {record.number} of the task log cannot be read: {error}. Install the same version of airflow_prs "
            "on all machines."
        ) from None
