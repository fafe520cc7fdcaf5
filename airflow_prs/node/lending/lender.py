"""The lender of mini-batches; docs/lending.md describes the entire protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from airflow_prs.errors import PrsError
from airflow_prs.node.changes import Changes
from airflow_prs.node.work.dispatcher import Dispatcher
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import loan_status
from airflow_prs.run_folder.shard_log import LoanState

SILENT_S = 60.0


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
        folder: RunFolder,
        attempt: Attempt,
        dispatcher: Dispatcher,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._dispatcher = dispatcher
        self._say = say
        self._signs = Changes(clock)

    async def serve(self) -> None:
        """
        Read open loans and answer requests; to be called after each look at the run folder.

        :raises LoanLostError: if all that is left is lent to nodes that have stopped.
        :raises SupersededError: if another attempt has claimed the shard.
        """
        if self._dispatcher.open_loans:
            await self._take_loans()
        await self._lend()

    async def _take_loans(self) -> None:
        still_open = {loan.number for loan in self._dispatcher.open_loans}
        states = await asyncio.to_thread(self._read_loans)
        # What was taken over or back is in the shard's log until the next commit.
        states = [found for found in states if found[0].loan.number in still_open]
        self._dispatcher.take_loans(states)
        is_lost = [self._is_lost(state, shown) for state, shown in states if not state.is_complete]
        if self._dispatcher.waits_for_loans and is_lost and all(is_lost):
            raise LoanLostError(
                f"{len(is_lost)} nodes that had taken mini-batches over do no more; they are taken back"
            )

    def _read_loans(self) -> list[tuple[LoanState, Any]]:
        shard = self._attempt.shard.number
        states = self._attempt.state.loans
        return [(state, self._folder.read_status(loan_status(shard, state.loan.number))) for state in states]

    def _is_lost(self, state: LoanState, shown: Any) -> bool:
        # Each loan gets a sign at each look, so that its silence is measured from the first one on.
        silent_s = self._signs.age_s(state.loan.number, (state.number, shown))
        return not state.is_open or silent_s > SILENT_S

    async def _lend(self) -> None:
        requests = await asyncio.to_thread(self._attempt.read_requests)
        lent = []
        for number, request in requests:
            loan = self._dispatcher.lend(number, request)
            if loan is None:
                await asyncio.to_thread(self._attempt.refuse_loan, number)
            else:
                lent.append(loan)
        if not lent:
            return
        # What is lent must be in the shard's log before its borrower begins.
        await self._dispatcher.committer.commit()
        for loan in lent:
            if await asyncio.to_thread(self._attempt.open_loan, loan):
                names = loan.borrower.node, loan.count, loan.first, loan.end - 1
                self._say("{} takes {} mini-batches over, from {} to {}".format(*names))
            else:
                self._dispatcher.take_back(loan)
