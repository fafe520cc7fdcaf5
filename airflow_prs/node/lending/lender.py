"""The lender of mini-batches; docs/lending.md describes the entire protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from airflow_prs.errors import PrsError
from airflow_prs.node.work.dispatcher import Dispatcher
from airflow_prs.run_folder.attempt_records import Claim, Closing, Loan
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.ledger import LoanState

SILENT_S = 30.0


class LoanLostError(PrsError):
    """A borrower will not finish what it borrowed; a new attempt takes it back."""


class Lender:
    """
    Lends mini-batches of a shard to nodes that ask for them, and takes the results.

    :param say: writes a line to the task log.
    :param clock: seconds, to measure how long a borrower has been silent.
    """

    def __init__(
        self,
        attempt: Attempt,
        dispatcher: Dispatcher,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._dispatcher = dispatcher
        self._say = say
        self._clock = clock
        self._signs: dict[str, tuple[object, float]] = {}

    async def serve(self) -> None:
        """
        Answer requests and read open loans; to be called after each look at the shard's folder.

        :raises LoanLostError: if all that is left is lent to nodes that have stopped.
        """
        loans = self._dispatcher.open_loans
        if not loans and not self._attempt.has_requests:
            return
        requests, states = await asyncio.to_thread(self._read, loans)
        for request in requests:
            loan = self._dispatcher.lend(request)
            if loan.count:
                self._say(f"{request.node} takes {loan.count} mini-batches over, from {loan.first} to {loan.end - 1}")
        self._dispatcher.take_loans([state for state, _ in states])
        is_lost = [self._is_lost(state, sign) for state, sign in states if state.closing is not Closing.DONE]
        if self._dispatcher.waits_for_loans and is_lost and all(is_lost):
            raise LoanLostError(
                f"{len(is_lost)} nodes that had taken mini-batches over do no more; they are taken back"
            )

    def _read(self, loans: list[Loan]) -> tuple[list[Claim], list[tuple[LoanState, object]]]:
        states = self._attempt.read_loans(loans)
        return self._attempt.read_requests(), [(state, self._sign_of(state)) for state in states]

    def _sign_of(self, state: LoanState) -> object:
        """Return something that changes while the borrower is alive."""
        shown = None
        with contextlib.suppress(FileNotFoundError):
            shown = self._attempt.loan_names(state.loan).status.stat().st_mtime_ns
        return state.committed_bytes, shown

    def _is_lost(self, state: LoanState, sign: object) -> bool:
        now, name = self._clock(), state.loan.name
        before, since = self._signs.get(name, (None, now))
        if sign != before:
            since = now
        self._signs[name] = sign, since
        return state.closing is not None or now - since > SILENT_S
