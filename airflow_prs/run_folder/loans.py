"""
Requests for mini-batches to the node of another shard; docs/lending.md describes the protocol.

A loan's folder is next to the shard's attempts, and only the borrower writes to it. Its commits count only if the
lender's commit log names the loan, and only up to the size that the shard's newest claim names.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_prs.records import Progress, Shard
from airflow_prs.run_folder import ledger
from airflow_prs.run_folder.attempt_records import Claim, Closing, Loan
from airflow_prs.run_folder.attempts import Attempt, Inheritance, write_claim
from airflow_prs.run_folder.names import AttemptNames, loan_name

if TYPE_CHECKING:
    from airflow_prs.run_folder.ledger import ShardState


class Request:
    """
    A request to the newest attempt at a shard, stored in the shard's folder.

    :param shard_folder: folder of the shard's attempts.
    :param state: state of the shard.
    :param borrower: the attempt that asks; the rows go to its rows files.
    :raises ValueError: if the shard has no attempt.
    """

    def __init__(self, shard_folder: Path, state: ShardState, borrower: Attempt) -> None:
        if state.claim is None:
            raise ValueError(f"shard {state.shard.number} has no attempt that could lend mini-batches")
        self._shard = state.shard
        self._shard_folder = shard_folder
        self._names = AttemptNames(shard_folder / loan_name(), borrower.names.path)
        self._claim = Claim(
            attempt=self._names.path.name,
            try_number=borrower.claim.try_number,
            max_tries=borrower.claim.max_tries,
            node=borrower.claim.node,
            started=time.time(),
            lender=state.claim.attempt,
            rows=borrower.names.place,
        )
        write_claim(self._names, self._claim)

    def read_answer(self) -> Loan | None:
        """
        Return the lender's answer.

        :return: the loan, an empty one if the lender lends nothing; None: no answer yet.
        """
        lender = self._claim.lender
        commit, _ = ledger.last_commit(AttemptNames(self._shard_folder / lender).commits, None)
        answers = [loan for loan in commit.loans if loan.name == self._claim.attempt] if commit is not None else []
        if answers:
            return answers[0]
        has_ended = commit is not None and commit.closing is not None
        is_replaced = max(ledger.attempt_names(self._shard_folder)) != lender
        return Loan(name=self._claim.attempt, first=0, end=0) if has_ended or is_replaced else None

    def accept(self, loan: Loan) -> Attempt:
        """
        Begin to work on a loan.

        :return: the attempt that writes the loan's folder. Its shard consists of the mini-batches that were lent; its
            counts are added to the lender's, so their totals are 0.
        """
        import numpy as np

        stretch = Shard(number=self._shard.number, first=loan.first, count=loan.count, items=0, size_bytes=0)
        nothing = np.zeros(loan.count, bool)
        return Attempt(
            stretch, self._names, self._claim, Inheritance(done=nothing, failed=nothing.copy(), progress=Progress())
        )

    def withdraw(self) -> None:
        """Cancel the request; if the lender has answered already, it takes the mini-batches back."""
        attempt = self.accept(Loan(name=self._claim.attempt, first=0, end=0))
        try:
            attempt.commit([], [], progress=Progress(), granted=0, closing=Closing.STOPPED)
        finally:
            attempt.close()
