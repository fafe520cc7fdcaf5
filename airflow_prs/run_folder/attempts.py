"""
Writing a shard's log: one attempt at a shard.

An attempt begins with a claim, which takes over what counts of the attempts before it. Whoever finds its next number
taken by another claim stops, so an attempt that was superseded commits nothing more. Rows are durable before the record
that names them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import FailedTry, Outcome, Progress, Shard, TryStatus
from airflow_prs.run_folder import loans as loan_logs
from airflow_prs.run_folder.epochs import TaskTry, next_epoch
from airflow_prs.run_folder.inheritance import Inheritance, first_grant, inherit
from airflow_prs.run_folder.log import Record
from airflow_prs.run_folder.names import checkpoint_key
from airflow_prs.run_folder.outcomes import Content, join, pack_checkpoint, pack_outcomes, pack_tries
from airflow_prs.run_folder.rows_files import RowsFiles
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.shard_log import (
    OWN_LOG,
    SHARD_RECORD,
    LoanState,
    ShardState,
    read_content,
    read_loan,
    read_loan_content,
    read_shard,
    shard_log,
    unpack_record,
)
from airflow_prs.run_folder.shard_records import (
    Checkpoint,
    Claim,
    Closing,
    Loan,
    LoanRequest,
    ShardRecord,
    Writer,
)
from airflow_prs.run_folder.tries import read_lines

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.store.port import Store

_FEW_RECORDS = 8
"""With at most this many records since the last checkpoint, the end of an attempt needs no other one."""
_RECORDS = 64
"""After this many records a checkpoint is written, if it at most doubles what all checkpoints have cost so far."""
_MANY_RECORDS = 1024
"""After this many records a checkpoint is written in any case."""


class Attempt:
    """
    One attempt at a shard, the only one that appends to its log until another one claims the shard.

    :param state: state of the shard after its claim.
    :param inheritance: what it took over.
    :param rows: its rows files.
    :ivar writer: this process.
    """

    def __init__(self, store: Store, state: ShardState, inheritance: Inheritance, rows: RowsFiles) -> None:
        if state.record is None:
            raise ValueError("an attempt begins with a claim")
        self.shard = state.shard
        self.claim = state.record.claim
        self.writer = state.record.claim.writer
        self.inheritance = inheritance
        self.rows = rows
        self._store = store
        self._log = shard_log(store, state.shard)
        self._state = state
        checkpoint, done = state.record.checkpoint, int(inheritance.done.sum())
        self._since = _SinceCheckpoint(
            in_checkpoint=0 if checkpoint is None else done,
            records=state.number - (-1 if checkpoint is None else checkpoint.number),
            outcomes=done if checkpoint is None else 0,
        )
        self._has_failed = False
        self._known_loans: dict[int, LoanState] = {}
        self._requests = loan_logs.RequestReader(store, state.shard)

    @property
    def state(self) -> ShardState:
        """The state of the shard at this attempt's last record, with the current state of its loans."""
        state = self._state
        return replace(state, loans=tuple(map(self._read_loan, state.loans)))

    @property
    def number(self) -> int:
        """Number of this attempt's last record."""
        return self._state.number

    def commit(
        self,
        outcomes: Iterable[Outcome],
        failed_tries: Iterable[FailedTry],
        *,
        progress: Progress,
        granted: int,
        trying: tuple[int, int] | None = None,
        closing: Closing | None = None,
        loans: Iterable[Loan] = (),
        taken_over: Iterable[LoanState] = (),
    ) -> None:
        """
        Make outcomes and their rows durable, and count them.

        :param progress: the shard's counts, including these outcomes and what is taken over.
        :param granted: index below which mini-batches may be handed out from now on.
        :param trying: the mini-batch that will be tried alone next, and the number of that try.
        :param closing: how the attempt ends; no commit follows.
        :param loans: the loans that are open from now on.
        :param taken_over: loans that were closed, and whose outcomes this commit counts.
        :raises SupersededError: if another attempt has claimed the shard.
        :raises RunFolderError: if an earlier commit failed: it may still appear.
        """
        if self._has_failed:
            raise RunFolderError(
                f"an earlier commit to shard {self.shard.number} failed; this attempt commits no more."
            )
        self._has_failed = True
        before = self._record
        kept = self.rows.keep(list(outcomes))
        writers = list(before.writers)
        packed = pack_outcomes(kept, _position(writers, self.writer))
        added = _Added(packed, pack_tries(failed_tries))
        for loan in taken_over:
            added += _read_added(self._store, self.shard, loan, _position(writers, loan.loan.borrower))
        number = self._state.number + 1
        since = self._since.with_record(len(added.outcomes))
        checkpoint = None
        if since.needs_checkpoint(is_last=closing is not None):
            checkpoint = Checkpoint(checkpoint_key(self.shard, number, self.writer.id), number)
        record = replace(
            before,
            is_claim=False,
            progress=progress,
            granted=granted,
            trying=trying,
            closing=closing,
            loans=tuple(loans),
            writers=tuple(writers),
            checkpoint=checkpoint or before.checkpoint,
            outcomes=len(added.outcomes) if checkpoint is None else 0,
            at=time.time(),
        )
        header = SHARD_RECORD.dump_json(record)
        if checkpoint is not None:
            content = join([read_content(self._store, replace(self._state, loans=())), added.content(number, header)])
            _write_checkpoint(self._store, checkpoint, content)
            since = _SinceCheckpoint(in_checkpoint=len(content.outcomes))
        payload = added.payload(with_outcomes=checkpoint is None)
        if not self._log.append(number, header, payload):
            raise superseded(self.shard)
        self._since = since
        self._state = ShardState(
            shard=self.shard, number=number, record=record, loans=tuple(LoanState(loan=loan) for loan in record.loans)
        )
        self._has_failed = False

    def is_newest(self) -> bool:
        """Whether no other attempt has claimed the shard since."""
        found = read_shard(self._store, self.shard, replace(self._state, loans=()))
        return found.claim is None or found.claim.writer.id == self.writer.id

    def read_requests(self) -> list[tuple[int, LoanRequest]]:
        """Return the requests for mini-batches that ask this attempt, and their numbers; each is returned once."""
        return [found for found in self._requests.read_new() if found[1].claimant == self.writer.id]

    def open_loan(self, loan: Loan) -> bool:
        """
        Let a borrower begin with a loan that a commit has named.

        :return: False if the borrower has withdrawn its request, another attempt has ended the loan, or the last commit
            does not name it.
        """
        return loan in self._record.loans and loan_logs.open_loan(self._store, self.shard, loan)

    def refuse_loan(self, number: int) -> None:
        """Answer a request: nothing is lent."""
        loan_logs.refuse_loan(self._store, self.shard, number)

    @property
    def _record(self) -> ShardRecord:
        if self._state.record is None:
            raise AssertionError("an attempt begins with a claim")
        return self._state.record

    def _read_loan(self, state: LoanState) -> LoanState:
        number = state.loan.number
        known = self._known_loans.get(number, state)
        self._known_loans[number] = read_loan(self._store, self.shard, state.loan, known)
        return self._known_loans[number]


def superseded(shard: Shard) -> SupersededError:
    """Return the error of an attempt that finds a later claim."""
    return SupersededError(
        f"a later try of shard {shard.number} has begun. This one stops; the later one does what is not committed yet."
    )


def open_attempt(
    store: Store,
    shard: Shard,
    task_try: TaskTry,
    *,
    node: str,
    window: int,
    rows: Callable[[Writer], RowsFiles],
) -> Attempt:
    """
    Claim a shard and return the attempt.

    :param node: ``<host>-<shard>-<try>``.
    :param window: how many mini-batches may be handed out before the first commit.
    :param rows: returns the rows files of this attempt.
    :raises SupersededError: if a later attempt has begun.
    """
    writer = Writer(uuid4().hex, node, shard.number)
    log = shard_log(store, shard)
    run_log = RunLog(store)
    if task_try.max_tries is not None:
        run_log.follow()
    state: ShardState | None = None
    while True:
        state = read_shard(store, shard, state)
        if state.claim is not None and state.claim.order > task_try.order:
            raise superseded(shard)
        ended = tuple(loan_logs.end_loan(store, shard, loan) for loan in state.loans)
        claim = Claim(
            writer=writer,
            epoch=next_epoch(state.claim, task_try, run_log.aborted),
            try_number=task_try.try_number,
            max_tries=task_try.max_tries or 0,
            started=time.time(),
        )
        record, payload, inheritance = _make_claim(store, replace(state, loans=ended), claim, window)
        if log.append(state.number + 1, SHARD_RECORD.dump_json(record), payload):
            break
    claimed = ShardState(shard=shard, number=state.number + 1, record=record)
    return Attempt(store, claimed, inheritance, rows(writer))


@dataclass(frozen=True, slots=True)
class _SinceCheckpoint:
    """
    What was written since the newest checkpoint.

    :param in_checkpoint: number of outcomes in it.
    :param records: number of records since.
    :param outcomes: number of outcomes since.
    """

    in_checkpoint: int
    records: int = 0
    outcomes: int = 0

    def with_record(self, outcomes: int) -> _SinceCheckpoint:
        """Return this with one more record."""
        return replace(self, records=self.records + 1, outcomes=self.outcomes + outcomes)

    def needs_checkpoint(self, *, is_last: bool) -> bool:
        """Whether it is time for another checkpoint."""
        if is_last and self.records > _FEW_RECORDS:
            return True
        return self.records >= _MANY_RECORDS or (self.records >= _RECORDS and self.outcomes >= self.in_checkpoint)


@dataclass(frozen=True, slots=True)
class _Added:
    """Outcomes and lines of failed tries that a record adds."""

    outcomes: npt.NDArray[Any]
    lines: list[bytes]

    def __add__(self, other: _Added) -> _Added:
        import numpy as np

        return _Added(np.concatenate([self.outcomes, other.outcomes]), self.lines + other.lines)

    def payload(self, *, with_outcomes: bool = True) -> bytes:
        """Return the payload of the record."""
        return b"".join([self.outcomes.tobytes() if with_outcomes else b"", *self.lines])

    def content(self, number: int, header: bytes) -> Content:
        """Return the outcomes, and the places of the tries in a record whose payload has no outcomes."""
        record = Record(number, header, self.payload(with_outcomes=False))
        return Content(outcomes=self.outcomes, tries=unpack_record(record, 0, OWN_LOG).tries)


def _make_claim(store: Store, state: ShardState, claim: Claim, window: int) -> tuple[ShardRecord, bytes, Inheritance]:
    """
    Return the record of a claim, its payload, and what the attempt takes over.

    The outcomes of loans that it ends are its payload. If it reopens failed mini-batches, it has a checkpoint without
    them instead.

    :param state: the state before, with the loans that were ended.
    """
    content = read_content(store, state)
    is_reopening = state.epoch is not None and claim.epoch > state.epoch
    inheritance = inherit(state, content, is_reopening=is_reopening)
    claim = replace(claim, suspected=inheritance.suspect_ranges)
    number = state.number + 1
    checkpoint = state.record.checkpoint if state.record is not None else None
    added = _Added(content.outcomes[:0], [])
    writers = list(state.writers)
    if is_reopening and len(content.outcomes) + len(content.tries):
        succeeded = content.outcomes[content.outcomes["status"] == TryStatus.RUN_DONE]
        checkpoint = Checkpoint(checkpoint_key(state.shard, number, claim.writer.id), number)
        _write_checkpoint(store, checkpoint, Content(outcomes=succeeded, tries=content.tries[:0]))
    elif state.record is not None:
        writers = list(state.record.writers)
        for loan in state.loans:
            added += _read_added(store, state.shard, loan, _position(writers, loan.loan.borrower))
    record = ShardRecord(
        is_claim=True,
        claim=claim,
        progress=inheritance.progress,
        granted=first_grant(state, inheritance, window),
        trying=inheritance.charged,
        writers=tuple(writers),
        checkpoint=checkpoint,
        outcomes=len(added.outcomes),
        at=time.time(),
    )
    return record, added.payload(), inheritance


def _read_added(store: Store, shard: Shard, loan: LoanState, writer: int) -> _Added:
    content = read_loan_content(store, shard, loan, writer=writer)
    return _Added(content.outcomes, list(read_lines(store, shard, content.tries)))


def _write_checkpoint(store: Store, checkpoint: Checkpoint, content: Content) -> None:
    if not store.create(checkpoint.key, pack_checkpoint(content.sorted())):
        raise RunFolderError(f"{checkpoint.key} exists with another content: two processes have the same random id.")


def _position(writers: list[Writer], writer: Writer) -> int:
    """Return the position of a writer, which is added if it is new."""
    if writer not in writers:
        writers.append(writer)
    return writers.index(writer)
