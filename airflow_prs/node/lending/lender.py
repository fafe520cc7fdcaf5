"""The lender's side of work that is taken over: docs/lending.md has the whole protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from airflow_prs.errors import PrsError
from airflow_prs.node.work.desk import ShardDesk
from airflow_prs.run_folder.attempt_records import Claim, Closing, Loan
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.ledger import LoanState

SILENT_S = 30.0


class LoanLostError(PrsError):
    """Whoever took mini-batches over will not bring them back; a new attempt takes them back."""


class Lender:
    """
    Answers nodes that ask for mini-batches of a shard, and takes over what they made of them.

    :param say: puts a line into the task log.
    :param clock: seconds, for how long a borrower has given no sign.
    """

    def __init__(
        self,
        attempt: Attempt,
        desk: ShardDesk,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._desk = desk
        self._say = say
        self._clock = clock
        self._signs: dict[str, tuple[object, float]] = {}

    async def mind(self) -> None:
        """
        Do what is to be done after a look at the shard's folder; nothing where nobody has asked.

        :raises LoanLostError: if all that is left is with nodes that do no more.
        """
        loans = self._desk.open_loans
        if not loans and not self._attempt.has_requests:
            return
        requests, states = await asyncio.to_thread(self._read, loans)
        for request in requests:
            loan = self._desk.lend(request)
            if loan.count:
                self._say(f"{request.node} takes {loan.count} mini-batches over, from {loan.first} to {loan.end - 1}")
        self._desk.take_loans([state for state, _ in states])
        is_lost = [self._is_lost(state, sign) for state, sign in states if state.closing is not Closing.DONE]
        if self._desk.waits_for_loans and is_lost and all(is_lost):
            raise LoanLostError(
                f"{len(is_lost)} nodes that had taken mini-batches over do no more; they are taken back"
            )

    def _read(self, loans: list[Loan]) -> tuple[list[Claim], list[tuple[LoanState, object]]]:
        states = self._attempt.read_loans(loans)
        return self._attempt.read_requests(), [(state, self._sign_of(state)) for state in states]

    def _sign_of(self, state: LoanState) -> object:
        """Read something that changes while the borrower is alive."""
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
