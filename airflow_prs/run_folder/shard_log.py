"""
Reading a shard's log and the logs of its open loans.

The last record has the counts and all that decides. Outcomes and failed tries are in the checkpoints and in the records
after the newest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_prs.errors import DamagedError
from airflow_prs.records import Progress, Shard
from airflow_prs.run_folder.checkpoints import read_checkpoint, takes_in
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.names import loan_prefix, shard_prefix
from airflow_prs.run_folder.outcomes import Content, join, no_content, outcome_type, unpack
from airflow_prs.run_folder.shard_records import (
    Checkpoint,
    Claim,
    Closing,
    Epoch,
    Loan,
    LoanRecord,
    LoanStatus,
    ShardRecord,
    Writer,
)

if TYPE_CHECKING:
    from airflow_prs.run_folder.log import Record
    from airflow_prs.store.port import Store

SHARD_RECORD: JsonRecords[ShardRecord] = JsonRecords(ShardRecord)
LOAN_RECORD: JsonRecords[LoanRecord] = JsonRecords(LoanRecord)
_FEW = 2
"""Of more records than this, one more is expected: one too few costs more requests to find out than one too many."""
OWN_LOG = -1
"""Stands for the shard's own log where loans are numbered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanState:
    """
    What counts of an open loan now.

    :param loan: the loan, from its lender's last record.
    :param number: number of the last record of its log; -1: there is none yet.
    :param record: that record; None: there is none yet.
    """

    loan: Loan
    number: int = -1
    record: LoanRecord | None = None

    @property
    def progress(self) -> Progress:
        """The counts to add to the lender's."""
        return self.record.progress if self.record is not None else Progress()

    @property
    def granted(self) -> int:
        """Index below which its mini-batches may have been handed out."""
        return self.record.granted if self.record is not None else self.loan.first

    @property
    def is_open(self) -> bool:
        """Whether the borrower works on it, or will."""
        return self.record is None or self.record.is_open

    @property
    def is_complete(self) -> bool:
        """Whether the borrower has closed it, and every mini-batch has an outcome."""
        is_closed = self.record is not None and self.record.status is LoanStatus.CLOSED
        return is_closed and self.progress.done == self.loan.count

    @property
    def is_suspect(self) -> bool:
        """Whether the borrower may have died of a mini-batch, or still works on one."""
        return self.record is not None and self.record.status not in (LoanStatus.CLOSED, LoanStatus.WITHDRAWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """
    What counts of a shard now.

    :param shard: the shard.
    :param number: number of the last record of its log; -1: no attempt has begun.
    :param record: that record; None: no attempt has begun.
    :param loans: the open loans that it names.
    :param new: how many records were new when it was read; the next read expects as many.
    """

    shard: Shard
    number: int = -1
    record: ShardRecord | None = None
    loans: tuple[LoanState, ...] = ()
    new: int = field(default=0, compare=False)

    @property
    def claim(self) -> Claim | None:
        """The newest claim; None: no attempt has begun."""
        return self.record.claim if self.record is not None else None

    @property
    def epoch(self) -> Epoch | None:
        """The epoch of the newest claim; None: no attempt has begun."""
        return self.record.claim.epoch if self.record is not None else None

    @property
    def progress(self) -> Progress:
        """The shard's counts over all attempts and loans."""
        if self.record is None:
            return Progress(total=self.shard.count, items_total=self.shard.items)
        return sum((state.progress for state in self.loans), self.record.progress)

    @property
    def granted(self) -> int:
        """Index below which mini-batches may have been handed out."""
        return self.record.granted if self.record is not None else self.shard.first

    @property
    def closing(self) -> Closing | None:
        """How its newest attempt ended; None: it continues, or has died."""
        return self.record.closing if self.record is not None else None

    @property
    def is_done(self) -> bool:
        """Whether every mini-batch of the shard has an outcome, and its newest attempt has ended."""
        return self.closing is Closing.DONE

    @property
    def is_running(self) -> bool:
        """Whether its newest attempt continues, or has died."""
        return self.record is not None and self.closing is None

    @property
    def not_handed_out(self) -> int:
        """Number of mini-batches that the newest attempt has neither handed out nor lent."""
        progress = self.progress
        lent = sum(state.loan.count - state.progress.handed_out for state in self.loans)
        return progress.total - progress.handed_out - lent

    @property
    def writers(self) -> tuple[Writer, ...]:
        """
        The writers of outcomes: those of its last record, then the borrowers of open loans.

        ``writer`` of an outcome is a position in it, see read_content.
        """
        if self.record is None:
            return ()
        return (*self.record.writers, *(state.loan.borrower for state in self.loans))


def shard_log(store: Store, shard: Shard) -> Log:
    """Return the log of a shard."""
    return Log(store, f"{shard_prefix(shard.number)}log/")


def request_log(store: Store, shard: Shard) -> Log:
    """Return the log in which other nodes ask for mini-batches of a shard."""
    return Log(store, f"{shard_prefix(shard.number)}requests/")


def loan_log(store: Store, shard: Shard, number: int) -> Log:
    """Return the log of a loan."""
    return Log(store, f"{loan_prefix(shard.number, number)}log/")


def read_shard(store: Store, shard: Shard, known: ShardState | None = None) -> ShardState:
    """
    Return a shard's state.

    It costs one request if nothing is new, two if about as much is new as the last time, and another one for each open
    loan.

    :param known: an earlier state of the shard, from which to read on; None: read from the start.
    """
    known = known or ShardState(shard=shard)
    found = shard_log(store, shard).read_last(known.number, max(1, known.new + (known.new > _FEW)))
    if found is None and not known.loans and not known.new:
        return known
    record, number = known.record, known.number
    if found is not None:
        record, number = SHARD_RECORD.validate_json(found.header), found.number
    # A first read says nothing of how many records come between two reads.
    new = 0 if known.record is None else number - known.number
    return replace(_state(store, shard, number, record, known.loans), new=new)


def read_shard_at(store: Store, shard: Shard, number: int) -> ShardState:
    """
    Return a shard's state as of an earlier record.

    :param number: number of the record; -1: before the first one.
    :raises RunFolderError: if the record is missing or damaged.
    """
    record = None
    for found in _read_all(shard_log(store, shard), number, number if number >= 0 else -2):
        record = SHARD_RECORD.validate_json(found.header)
    return _state(store, shard, number, record)


def _state(
    store: Store, shard: Shard, number: int, record: ShardRecord | None, known: tuple[LoanState, ...] = ()
) -> ShardState:
    before = {state.loan.number: state for state in known}
    loans = () if record is None else record.loans
    states = tuple(read_loan(store, shard, loan, before.get(loan.number)) for loan in loans)
    return ShardState(shard=shard, number=number, record=record, loans=states)


def read_loan(store: Store, shard: Shard, loan: Loan, known: LoanState | None = None) -> LoanState:
    """
    Return the state of an open loan.

    :param known: an earlier state of it; None: there is none.
    """
    known = known or LoanState(loan=loan)
    found = loan_log(store, shard, loan.number).read_last(known.number)
    if found is None:
        return known
    return LoanState(loan=loan, number=found.number, record=LOAN_RECORD.validate_json(found.header))


def read_content(store: Store, state: ShardState) -> Content:
    """
    Return the outcomes that count, one for each mini-batch at most, sorted by index; and the places of failed tries.

    ``writer`` of an outcome is a position in ``state.writers``.

    :raises DamagedError: if they are damaged or missing.
    """
    import numpy as np

    # Each outcome has its place, so that neither a sorted copy nor a list of the parts needs as much memory again.
    outcomes, is_there = np.empty(state.shard.count, outcome_type()), np.zeros(state.shard.count, bool)
    tries, read = [], 0
    for part in read_parts(store, state):
        places = part.outcomes["index"] - state.shard.first
        outcomes[places], is_there[places] = part.outcomes, True
        read += len(places)
        tries.append(part.tries)
    if read != is_there.sum():
        raise DamagedError(
            f"shard {state.shard.number} has two outcomes of a mini-batch. Clear the plan task to start over."
        )
    return Content(
        outcomes=outcomes if is_there.all() else outcomes[is_there],
        tries=np.concatenate([no_content().tries, *reversed(tries)]),
    )


def read_parts(store: Store, state: ShardState) -> Iterator[Content]:
    """
    Yield the outcomes that count, and the places of failed tries, in parts of bounded size, the newest one first.

    ``writer`` of an outcome is a position in ``state.writers``.

    :raises DamagedError: if they are damaged or missing.
    """
    if state.record is None:
        return
    for position, loan in reversed([*enumerate(state.loans, start=len(state.record.writers))]):
        yield read_loan_content(store, state.shard, loan, writer=position)
    yield from _read_records(store, state.shard, state.record, state.number)
    checkpoint = state.record.checkpoint
    while checkpoint is not None:
        content, before = read_checkpoint(store, checkpoint)
        yield _what_counts(content, checkpoint.number, state.record)
        checkpoint = before


def read_for_checkpoint(
    store: Store, state: ShardState, size: int, known: Mapping[int, Content]
) -> tuple[list[Content], Checkpoint | None]:
    """
    Return what a new checkpoint takes in, the newest part first, and the checkpoint before it.

    :param state: the state before; it has a record.
    :param size: number of outcomes and failed tries that its record adds.
    :param known: what the newest records hold, by number; they are not read.
    """
    record = state.record
    if record is None:
        raise AssertionError("an attempt begins with a claim")
    parts = [_what_counts(known[number], number, record) for number in sorted(known, reverse=True)]
    parts += _read_records(store, state.shard, record, state.number - len(known))
    size, before = size + sum(part.size for part in parts), record.checkpoint
    while before is not None and takes_in(size, before):
        content, following = read_checkpoint(store, before)
        parts.append(_what_counts(content, before.number, record))
        size, before = size + parts[-1].size, following
    return parts, before


def read_loan_content(store: Store, shard: Shard, loan: LoanState, *, writer: int) -> Content:
    """
    Return the outcomes and the places of failed tries of a loan.

    :param writer: what ``writer`` of its outcomes is to be.
    """
    number = loan.loan.number
    log = loan_log(store, shard, number)
    parts = []
    for record in _read_all(log, 0, loan.number):
        header = LOAN_RECORD.validate_json(record.header)
        parts.append(unpack_record(record, header.outcomes, number))
    content = join(parts)
    outcomes = content.outcomes.copy()
    outcomes["writer"] = writer
    return Content(outcomes=outcomes, tries=content.tries)


def _read_records(store: Store, shard: Shard, last: ShardRecord, number: int) -> Iterator[Content]:
    """Yield what the records after the newest checkpoint hold, the newest one first."""
    log = shard_log(store, shard)
    after = last.checkpoint.number if last.checkpoint is not None else -1
    for record in log.read_many(range(number, after, -1)):
        content = unpack_record(record, SHARD_RECORD.validate_json(record.header).outcomes, OWN_LOG)
        yield _what_counts(content, record.number, last)


def _what_counts(content: Content, number: int, last: ShardRecord) -> Content:
    """Return what counts of a record or a checkpoint, whose last record has this number."""
    return content.without_failures() if number <= last.reopened else content


def _read_all(log: Log, first: int, last: int) -> Iterator[Record]:
    return log.read_many(range(first, last + 1))


def unpack_record(record: Record, outcomes: int, log: int) -> Content:
    """
    Return what a record's payload holds.

    :param outcomes: number of its outcomes.
    :param log: number of the loan to whose log it belongs, or OWN_LOG.
    :raises DamagedError: if it is damaged.
    """
    return unpack(record.payload, outcomes, log=log, record=record.number, offset=record.payload_offset)
