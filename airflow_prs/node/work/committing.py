"""Making outcomes durable in groups, and granting how far mini-batches may be handed out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from airflow_prs.node.work.queue import WorkQueue
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, Outcome
from airflow_prs.run_folder.attempt_records import Closing, Loan
from airflow_prs.run_folder.attempts import Attempt

GROUP_S = 0.5
GROUP_BYTES = 64 * 1024 * 1024
WINDOW = 2
"""Mini-batches that may be handed out for each that is worked on, before anything is measured."""
_FASTEST_GROWTH = 16


class Committer:
    """
    Collects outcomes and commits them: half a second or 64 MiB apart, at once where it was asked for.

    :param attempt: writes the commits.
    :param tally: the shard's counts.
    :param queue: what was handed out; its grant is extended by each commit.
    :param at_once: how many mini-batches the node works on at the same time.

    ``loans`` are those that each commit names, by name.
    """

    def __init__(
        self,
        attempt: Attempt,
        tally: Tally,
        queue: WorkQueue,
        *,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._at_once = at_once
        self._clock = clock
        self._tally = tally
        self._queue = queue
        self.on_commit: Callable[[], None] = lambda: None
        self._outcomes: list[Outcome] = []
        self._tries: list[FailedTry] = []
        self._bytes = 0
        self._busy_s = 0.0
        self._window = WINDOW * at_once
        self._since = clock()
        self._commit_s = 0.0
        self._urgent = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_over = False
        self._is_closed = False
        self.is_granting = True
        self.loans: dict[str, Loan] = {}

    def add(self, outcome: Outcome) -> None:
        """Take an outcome."""
        if not self._outcomes:
            # Before the first one there may have been init(), or nothing to do.
            self._since = max(self._since, self._clock() - outcome.duration_s)
        self._outcomes.append(outcome)
        self._bytes += outcome.length
        self._busy_s += outcome.duration_s
        if self._bytes > GROUP_BYTES:
            self._urgent.set()

    def add_try(self, failed: FailedTry) -> None:
        """Take a failed try."""
        self._tries.append(failed)

    def hurry(self) -> None:
        """Ask for a commit now."""
        self._urgent.set()

    @property
    def grants_below(self) -> float:
        """How few granted mini-batches are left when it is time to grant more, so that nobody has to wait for it."""
        return self._window / 2

    def grant(self) -> None:
        """Ask for a commit that grants more, unless one is under way: it does."""
        if not self._lock.locked():
            self._urgent.set()

    def end(self) -> None:
        """Let run() come to its end."""
        # Not by cancelling: before Python 3.12 wait_for() can lose a cancellation.
        self._is_over = True
        self._urgent.set()

    async def run(self) -> None:
        """Commit whenever it is time, until end() is called."""
        while not self._is_over:
            try:
                await asyncio.wait_for(self._urgent.wait(), GROUP_S)
            except asyncio.TimeoutError:
                if not self._outcomes and not self._tries:
                    continue
            await self.commit()

    async def commit(self, *, trying: tuple[int, int] | None = None, closing: Closing | None = None) -> None:
        """
        Commit what has come so far.

        A commit that has begun goes through even if whoever waits for it is cancelled.

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
            outcomes, tries = self._outcomes, self._tries
            busy_s, self._busy_s = self._busy_s, 0.0
            self._outcomes, self._tries, self._bytes = [], [], 0
            granted = self._queue.granted
            if self.is_granting and closing is None:
                granted = self._queue.extend_grant(self._widen(len(outcomes), busy_s))
            began = self._clock()
            await asyncio.to_thread(
                self._attempt.commit,
                outcomes,
                tries,
                progress=self._tally.progress(),
                granted=granted,
                processes={outcome.process for outcome in outcomes if outcome.length},
                trying=trying,
                closing=closing,
                loans=tuple(self.loans.values()),
            )
            self._commit_s = self._clock() - began
            # Of what was lent meanwhile nothing is granted any more.
            self._queue.granted = min(granted, self._queue.end)
        self.on_commit()

    def _widen(self, outcomes: int, busy_s: float) -> int:
        """
        Grant what is done until the commit after the next: enough to keep going, little to suspect if the node dies.

        :param busy_s: seconds that the processes worked on these outcomes, all together.
        """
        now = self._clock()
        # Several long ones may end at the same moment. That says nothing about the rate.
        elapsed_s = max(now - self._since, busy_s / self._at_once, 1e-3)
        self._since = now
        enough = int(2 * max(GROUP_S, self._commit_s) * outcomes / elapsed_s)
        self._window = max(WINDOW * self._at_once, min(_FASTEST_GROWTH * self._window, enough))
        return self._window
