"""
Loans: mini-batches of a shard that the node of another shard works on; docs/lending.md describes the protocol.

A node asks in the log of the shard's requests. The lender first commits the loan in the shard's log. Then record 0 of
the loan's own log decides by its creation: open (the lender), withdrawn (the borrower) or ended. After open, the
borrower commits there until it closes the loan, or finds that it was ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import FailedTry, Outcome, Progress, Shard
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.outcomes import pack_outcomes, pack_tries
from airflow_prs.run_folder.shard_log import LOAN_RECORD, LoanState, loan_log, read_loan, request_log
from airflow_prs.run_folder.shard_records import Closing, Loan, LoanRecord, LoanRequest, LoanStatus, Writer

if TYPE_CHECKING:
    from airflow_prs.run_folder.log import Log
    from airflow_prs.run_folder.rows_files import RowsFiles
    from airflow_prs.run_folder.shard_log import ShardState
    from airflow_prs.store.port import Store

REQUEST: JsonRecords[LoanRequest] = JsonRecords(LoanRequest)


class RequestReader:
    """Reads the requests for mini-batches of a shard, each once."""

    def __init__(self, store: Store, shard: Shard) -> None:
        self._log = request_log(store, shard)
        self._next = 0

    def read_new(self) -> list[tuple[int, LoanRequest]]:
        """Return the requests since the last call, with their numbers; usually one request to the store."""
        found = [(x.number, REQUEST.validate_json(x.header)) for x in self._log.read_all(self._next)]
        self._next += len(found)
        return found


# What the lender does


def open_loan(store: Store, shard: Shard, loan: Loan) -> bool:
    """
    Let a borrower begin with a loan that the shard's log names.

    :return: False if the borrower has withdrawn its request, or a later attempt has ended the loan.
    """
    opened = LoanRecord(status=LoanStatus.OPEN, first=loan.first, end=loan.end, granted=loan.first)
    return _append(loan_log(store, shard, loan.number), 0, opened)


def refuse_loan(store: Store, shard: Shard, number: int) -> None:
    """Answer a request: nothing is lent."""
    _append(loan_log(store, shard, number), 0, LoanRecord(status=LoanStatus.ENDED))


def end_loan(store: Store, shard: Shard, loan: LoanState) -> LoanState:
    """End a loan, whatever its state, and return how far it got: from now on its log does not grow."""
    while loan.is_open:
        ended = LoanRecord(status=LoanStatus.ENDED)
        if loan.record is not None:
            ended = replace(loan.record, status=LoanStatus.ENDED, outcomes=0)
        if _append(loan_log(store, shard, loan.loan.number), loan.number + 1, ended):
            return LoanState(loan=loan.loan, number=loan.number + 1, record=ended)
        loan = read_loan(store, shard, loan.loan, loan)
    return loan


# What the borrower does


class Request:
    """
    A request to the claimant of a shard.

    :param state: state of the shard.
    :param borrower: who asks.
    :raises ValueError: if the shard has no attempt.
    """

    def __init__(self, store: Store, state: ShardState, borrower: Writer) -> None:
        if state.claim is None:
            raise ValueError(f"shard {state.shard.number} has no attempt that could lend mini-batches")
        self._store = store
        self._shard = state.shard
        self._borrower = borrower
        header = REQUEST.dump_json(LoanRequest(claimant=state.claim.writer.id, borrower=borrower, at=time.time()))
        log = request_log(store, state.shard)
        last = log.read_last()
        number = 0 if last is None else last.number + 1
        while not log.append(number, header):
            number += 1
        self._number = number

    def read_answer(self) -> LoanRecord | None:
        """Return the first record of the loan's log; None: no answer yet. Only with an open one there is work."""
        record = loan_log(self._store, self._shard, self._number).read(0)
        return None if record is None else LOAN_RECORD.validate_json(record.header)

    def withdraw(self) -> LoanRecord:
        """Cancel the request; return the first record of the loan's log, which is open if the lender was faster."""
        withdrawn = LoanRecord(status=LoanStatus.WITHDRAWN)
        if _append(loan_log(self._store, self._shard, self._number), 0, withdrawn):
            return withdrawn
        return self.read_answer() or withdrawn

    def accept(self, opened: LoanRecord, rows: RowsFiles) -> BorrowedWork:
        """
        Begin to work on a loan.

        :param opened: the answer.
        :param rows: the borrower's rows files.
        """
        loan = Loan(number=self._number, first=opened.first, end=opened.end, borrower=self._borrower)
        return BorrowedWork(self._store, self._shard, LoanState(loan=loan, number=0, record=opened), rows)


class BorrowedWork:
    """
    A loan that this node works on. It commits like an Attempt.

    :ivar shard: the mini-batches that were lent. Their shard counts the totals, so items are 0.
    :ivar writer: this process.
    """

    def __init__(self, store: Store, lender: Shard, state: LoanState, rows: RowsFiles) -> None:
        loan = state.loan
        self.shard = Shard(number=lender.number, first=loan.first, count=loan.count, items=0, size_bytes=0)
        self.loan = loan
        self.writer = loan.borrower
        self.rows = rows
        self._store = store
        self._lender = lender
        self._state = state
        self._has_failed = False

    def commit(
        self,
        outcomes: Iterable[Outcome],
        failed_tries: Iterable[FailedTry],
        *,
        progress: Progress,
        granted: int,
        closing: Closing | None = None,
    ) -> None:
        """
        Make outcomes and their rows durable, and count them.

        :param progress: the loan's counts, including these outcomes.
        :param granted: index below which mini-batches may be handed out from now on.
        :param closing: how this node ends the loan: it works on none of its mini-batches any more.
        :raises SupersededError: if the loan was ended.
        :raises RunFolderError: if an earlier commit failed: it may still appear.
        """
        if self._has_failed:
            raise RunFolderError(f"an earlier commit to a loan of shard {self.shard.number} failed.")
        self._has_failed = True
        packed = pack_outcomes(self.rows.keep(list(outcomes)), 0)
        record = LoanRecord(
            status=LoanStatus.OPEN if closing is None else LoanStatus.CLOSED,
            first=self.loan.first,
            end=self.loan.end,
            granted=granted,
            progress=progress,
            outcomes=len(packed),
            at=time.time(),
        )
        payload = b"".join([packed.tobytes(), *pack_tries(failed_tries)])
        number = self._state.number + 1
        if not _append(loan_log(self._store, self._lender, self.loan.number), number, record, payload):
            raise SupersededError(f"the mini-batches that shard {self.shard.number} had lent were taken back.")
        self._state = LoanState(loan=self.loan, number=number, record=record)
        self._has_failed = False

    @property
    def number(self) -> int:
        """Number of this loan's last record."""
        return self._state.number

    def is_newest(self) -> bool:
        """Whether nobody has ended the loan."""
        return read_loan(self._store, self._lender, self.loan, self._state).is_open


def _append(log: Log, number: int, record: LoanRecord, payload: bytes = b"") -> bool:
    return log.append(number, LOAN_RECORD.dump_json(record), payload)
