"""Commits outcomes at intervals; each commit also grants how far mini-batches may be handed out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from airflow_prs.node.work.meter import Meter
from airflow_prs.node.work.queue import WorkQueue
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, Outcome
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.intervals import ON_FILES
from airflow_prs.run_folder.loans import BorrowedWork
from airflow_prs.run_folder.shard_log import LoanState
from airflow_prs.run_folder.shard_records import Closing, Loan

_TICK_S = 1.0
"""Seconds between two looks whether a commit is due."""
_AGE_PER_INTERVAL = 5000
"""The interval between commits grows with the age of the attempt, to some 20,000 commits in 24 hours."""
GROUP_BYTES = 64 * 1024 * 1024
GROUP_OUTCOMES = 16384
WINDOW = 2
"""Mini-batches that may be handed out for each that runs, before any rate is measured."""
_FASTEST_GROWTH = 16


class Committer:
    """
    Collects outcomes and commits them at intervals, every 64 MiB or 16,384 outcomes, or when hurry() is called.

    The interval is the shortest one at first, and grows with the age of the attempt. What may exceed a threshold is
    committed within a second: a failed try, and failed items if they count.

    :param attempt: writes the commits: an attempt at a shard, or a loan that this node works on.
    :param tally: the shard's counts.
    :param queue: gets a new grant with each commit.
    :param concurrency: how many mini-batches the node works on at the same time.
    :param shortest_s: the shortest interval.
    :param is_granting: whether commits extend the grant; if not, from start_granting() on.
    :param counts_failed_items: whether failed items count against a threshold now.
    :param meter: counts commits.
    :param on_commit: called after each commit, in the event loop.
    """

    def __init__(
        self,
        attempt: Attempt | BorrowedWork,
        tally: Tally,
        queue: WorkQueue,
        *,
        concurrency: int,
        shortest_s: float = ON_FILES.commit_s,
        is_granting: bool = True,
        counts_failed_items: Callable[[], bool] = lambda: False,
        meter: Meter | None = None,
        on_commit: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._shortest_s = shortest_s
        self._concurrency = concurrency
        self._clock = clock
        self._tally = tally
        self._queue = queue
        self._is_granting = is_granting
        self._counts_failed_items = counts_failed_items
        self._meter = meter or Meter()
        self._on_commit = on_commit
        self._outcomes: list[Outcome] = []
        self._tries: list[FailedTry] = []
        self._has_failed_items = False
        self._bytes = 0
        self._busy_s = 0.0
        self._window = WINDOW * concurrency
        self._began = self._since = self._committed = clock()
        self._commit_s = 0.0
        self._urgent = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_over = False
        self._is_closed = False
        self._loans: dict[int, Loan] = {}
        self._taken_over: list[LoanState] = []

    def add(self, outcome: Outcome) -> None:
        """Add an outcome to the next commit."""
        if not self._outcomes:
            # Leave out the time of init(), and time in which there was nothing to do.
            self._since = max(self._since, self._clock() - outcome.duration_s)
        self._outcomes.append(outcome)
        self._has_failed_items |= outcome.succeeded < outcome.items and self._counts_failed_items()
        self._bytes += outcome.length
        self._busy_s += outcome.duration_s
        if self._bytes > GROUP_BYTES or len(self._outcomes) >= GROUP_OUTCOMES:
            self._urgent.set()

    def add_try(self, failed: FailedTry) -> None:
        """Add a failed try to the next commit."""
        self._tries.append(failed)

    def hurry(self) -> None:
        """Ask for a commit now."""
        self._urgent.set()

    @property
    def loans(self) -> tuple[Loan, ...]:
        """The open loans, which each commit names."""
        return tuple(self._loans.values())

    def add_loan(self, loan: Loan) -> None:
        """Name a loan in each commit from the next one on."""
        self._loans[loan.number] = loan

    def drop_loan(self, loan: Loan) -> None:
        """Name a loan no more: nothing was lent."""
        del self._loans[loan.number]

    def take_over(self, state: LoanState) -> None:
        """Count the outcomes of a loan in the next commit, which names it no more, and ask for that commit."""
        self.drop_loan(state.loan)
        self._taken_over.append(state)
        self.hurry()

    def start_granting(self) -> None:
        """Let the following commits extend the grant."""
        self._is_granting = True

    def extend_grant_early(self) -> None:
        """Ask for a commit if the grant is about to run out, so that no process waits for it."""
        # A commit under way extends it, too.
        if self._queue.left_of_grant < self._window / 2 and not self._lock.locked():
            self.hurry()

    def end(self) -> None:
        """Make run() return."""
        # Not by cancelling it: before Python 3.12 wait_for() can lose a cancellation.
        self._is_over = True
        self._urgent.set()

    async def run(self) -> None:
        """Commit when it is time, until end() is called."""
        while not self._is_over:
            try:
                await asyncio.wait_for(self._urgent.wait(), _TICK_S)
            except asyncio.TimeoutError:
                if not self._is_due:
                    continue
            await self.commit()

    @property
    def _interval_s(self) -> float:
        return max(self._shortest_s, (self._clock() - self._began) / _AGE_PER_INTERVAL)

    @property
    def _is_due(self) -> bool:
        # run() looks once in a while, so the nearest of these moments is taken.
        elapsed_s = self._clock() - self._committed + _TICK_S / 2
        return bool(self._tries) or self._has_failed_items or (bool(self._outcomes) and elapsed_s >= self._interval_s)

    async def commit(self, *, trying: tuple[int, int] | None = None, closing: Closing | None = None) -> None:
        """
        Commit what was added so far.

        A commit that has begun is completed even if the caller is cancelled.

        :param trying: see Attempt.commit.
        :param closing: see Attempt.commit; nothing is committed after it.
        """
        await asyncio.shield(asyncio.ensure_future(self._commit(trying, closing)))

    async def _commit(self, trying: tuple[int, int] | None, closing: Closing | None) -> None:
        async with self._lock:
            self._urgent.clear()
            if self._is_closed:
                return
            self._is_closed = closing is not None
            outcomes, tries, taken_over = self._outcomes, self._tries, self._taken_over
            busy_s, self._busy_s = self._busy_s, 0.0
            self._outcomes, self._tries, self._taken_over, self._bytes = [], [], [], 0
            self._has_failed_items = False
            granted = self._queue.granted
            if self._is_granting and closing is None:
                granted = self._queue.next_grant(self._widen(len(outcomes), busy_s))
            # Only an attempt at a shard has these.
            own = {"trying": trying, "loans": self.loans, "taken_over": taken_over}
            self._committed = self._clock()
            await asyncio.to_thread(
                self._attempt.commit,
                outcomes,
                tries,
                progress=self._tally.progress(),
                granted=granted,
                closing=closing,
                **{name: value for name, value in own.items() if value},
            )
            self._commit_s = self._clock() - self._committed
            self._meter.count_commit(self._commit_s)
            self._queue.grant(granted)
        self._on_commit()

    def _widen(self, outcomes: int, busy_s: float) -> int:
        """
        Return how many mini-batches to grant: as many as are done until the commit after the next.

        That is enough to keep the processes busy, and few to suspect if the node dies.

        :param busy_s: seconds that the processes worked on these outcomes, summed.
        """
        now = self._clock()
        # Several long mini-batches may end in the same moment, which says nothing about the rate.
        elapsed_s = max(now - self._since, busy_s / self._concurrency, 1e-3)
        self._since = now
        enough = int(2 * max(self._interval_s, self._commit_s) * outcomes / elapsed_s)
        window = max(WINDOW * self._concurrency, min(_FASTEST_GROWTH * self._window, enough))
        progress = self._tally.progress()
        self._window = self._queue.limit_window(window, progress.handed_out - progress.done)
        return self._window
