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
from airflow_prs.records import FailedTry, Outcome, Progress, Shard
from airflow_prs.run_folder import loans as loan_logs
from airflow_prs.run_folder.checkpoints import needs_checkpoint, write_checkpoint
from airflow_prs.run_folder.epochs import TaskTry, next_epoch
from airflow_prs.run_folder.inheritance import Inheritance, first_grant, inherit
from airflow_prs.run_folder.log import Record
from airflow_prs.run_folder.names import checkpoint_key
from airflow_prs.run_folder.outcomes import Content, no_content, pack_outcomes, pack_tries
from airflow_prs.run_folder.rows_files import RowsFiles
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.shard_log import (
    OWN_LOG,
    SHARD_RECORD,
    LoanState,
    ShardState,
    read_for_checkpoint,
    read_loan,
    read_loan_content,
    read_parts,
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
        self._has_failed = False
        self._known_loans: dict[int, LoanState] = {}
        self._committed: dict[int, Content] = {}
        """What this attempt has committed since the last checkpoint, by record; the next one takes it in unread."""
        self._requests = loan_logs.RequestReader(store, state.shard)

    @property
    def state(self) -> ShardState:
        """The state of the shard at this attempt's last record, with the current state of its loans."""
        state = self._state
        return replace(state, loans=tuple(map(self._read_loan, state.loans)))

    @property
    def known_state(self) -> ShardState:
        """The same with its loans as they were last read, so without a request."""
        state = self._state
        return replace(state, loans=tuple(self._known_loans.get(loan.loan.number, loan) for loan in state.loans))

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
        record = replace(
            before,
            is_claim=False,
            progress=progress,
            granted=granted,
            trying=trying,
            closing=closing,
            loans=tuple(loans),
            writers=tuple(writers),
            outcomes=len(added.outcomes),
            after_checkpoint=before.after_checkpoint + added.size,
            at=time.time(),
        )
        has_checkpoint = needs_checkpoint(record, number)
        if has_checkpoint:
            record = self._write_checkpoint(record, number, added)
            self._committed.clear()
        header, payload = SHARD_RECORD.dump_json(record), added.payload(with_outcomes=not has_checkpoint)
        if not self._log.append(number, header, payload):
            raise superseded(self.shard)
        if not has_checkpoint:
            self._committed[number] = added.content(Record(number, header, payload), record.outcomes)
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

    def _write_checkpoint(self, record: ShardRecord, number: int, added: _Added) -> ShardRecord:
        """
        Write a checkpoint up to a record, and return the record, which names it.

        :param added: what the record adds; its outcomes go into the checkpoint, and its failed tries into the payload.
        """
        parts, before = read_for_checkpoint(self._store, self._state, added.size, self._committed)
        size = added.size + sum(part.size for part in parts)
        checkpoint = Checkpoint(checkpoint_key(self.shard, number, self.writer.id), number, size)
        record = replace(record, checkpoint=checkpoint, outcomes=0, after_checkpoint=0)
        in_log = Record(number, SHARD_RECORD.dump_json(record), added.payload(with_outcomes=False))
        parts.insert(0, added.content(in_log, 0))
        write_checkpoint(self._store, checkpoint, parts[::-1], before)
        return record

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
class _Added:
    """Outcomes and lines of failed tries that a record adds."""

    outcomes: npt.NDArray[Any]
    lines: list[bytes]

    def __add__(self, other: _Added) -> _Added:
        import numpy as np

        return _Added(np.concatenate([self.outcomes, other.outcomes]), self.lines + other.lines)

    @property
    def size(self) -> int:
        """Number of outcomes and failed tries."""
        return len(self.outcomes) + len(self.lines)

    def payload(self, *, with_outcomes: bool = True) -> bytes:
        """Return the payload of the record."""
        return b"".join([self.outcomes.tobytes() if with_outcomes else b"", *self.lines])

    def content(self, record: Record, outcomes: int) -> Content:
        """
        Return the outcomes, and the places of the tries.

        :param record: the record that adds them.
        :param outcomes: number of outcomes in its payload.
        """
        return Content(outcomes=self.outcomes, tries=unpack_record(record, outcomes, OWN_LOG).tries)


def _make_claim(store: Store, state: ShardState, claim: Claim, window: int) -> tuple[ShardRecord, bytes, Inheritance]:
    """
    Return the record of a claim, its payload, and what the attempt takes over.

    The outcomes of loans that it ends are its payload.

    :param state: the state before, with the loans that were ended.
    """
    is_reopening = state.epoch is not None and claim.epoch > state.epoch
    inheritance = inherit(state, read_parts(store, state), is_reopening=is_reopening, window=window)
    record = ShardRecord(
        is_claim=True,
        claim=replace(claim, suspected=inheritance.suspect_ranges),
        progress=inheritance.progress,
        granted=first_grant(state, inheritance, window),
        trying=inheritance.charged,
        at=time.time(),
    )
    if state.record is None:
        return record, b"", inheritance
    before, writers = state.record, list(state.record.writers)
    added = _Added(no_content().outcomes, [])
    for loan in state.loans:
        added += _read_added(store, state.shard, loan, _position(writers, loan.loan.borrower))
    record = replace(
        record,
        writers=tuple(writers),
        checkpoint=before.checkpoint,
        outcomes=len(added.outcomes),
        after_checkpoint=before.after_checkpoint + added.size,
        reopened=state.number + 1 if is_reopening else before.reopened,
    )
    return record, added.payload(), inheritance


def _read_added(store: Store, shard: Shard, loan: LoanState, writer: int) -> _Added:
    content = read_loan_content(store, shard, loan, writer=writer)
    return _Added(content.outcomes, list(read_lines(store, shard, content.tries)))


def _position(writers: list[Writer], writer: Writer) -> int:
    """Return the position of a writer, which is added if it is new."""
    if writer not in writers:
        writers.append(writer)
    return writers.index(writer)
