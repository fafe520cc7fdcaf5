"""The borrower of mini-batches; docs/lending.md describes the entire protocol."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_prs.errors import PrsError
from airflow_prs.node.changes import Changes
from airflow_prs.node.watching import Watcher
from airflow_prs.node.work.dispatcher import Dispatcher, NodeWork
from airflow_prs.records import Progress
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.loans import BorrowedWork, Request
from airflow_prs.run_folder.names import shard_status
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.run_folder.shard_records import Closing, LoanRecord

_ANSWER_LOOKS = 10
"""Looks of a node within which it answers a request."""
_SEEK_S = 1.0
_FRESH_STATUSES = 5
"""A node is asked if its status.json is not older than this many intervals."""
_WORTH_S = 1.0
_MOST_ASKED = 3


@dataclass(slots=True)
class _Borrowed:
    """A loan that this node works on."""

    work: BorrowedWork
    dispatcher: Dispatcher
    committing: asyncio.Future[None]
    checked_at: float = field(default_factory=time.monotonic)

    def is_turn(self, every_s: float) -> bool:
        """Return whether to look again if somebody has ended the loan."""
        now = time.monotonic()
        if now - self.checked_at < every_s:
            return False
        self.checked_at = now
        return True


class Borrower:
    """
    Finds work for slots that have nothing to do: borrows mini-batches from the node that has the most time to go.

    :param attempt: the node's claim to its own shard.
    :param watcher: knows how far the other shards are.
    :param work: what the node works on; loans are added to it.
    :param make_dispatcher: makes the dispatcher of a loan.
    :param awaits_others_s: seconds without a loan for which it waits for others that may have work to lend.
    :param say: writes a line to the task log.
    """

    def __init__(
        self,
        folder: RunFolder,
        attempt: Attempt,
        watcher: Watcher,
        work: NodeWork,
        make_dispatcher: Callable[[BorrowedWork], Dispatcher],
        *,
        awaits_others_s: float = 0.0,
        say: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._look_s = folder.intervals.look_s
        self._poll_s = folder.intervals.poll_s
        self._check_s = self._look_s * folder.intervals.turns
        self._answer_s = self._look_s * _ANSWER_LOOKS
        self._fresh_s = folder.intervals.status_s * _FRESH_STATUSES
        self._attempt = attempt
        self._watcher = watcher
        self._work = work
        self._make_dispatcher = make_dispatcher
        self._awaits_others_s = awaits_others_s
        self._say = say
        self._stir = asyncio.Event()
        self._finished = asyncio.Event()
        self._borrowed: list[_Borrowed] = []
        self._asking: Request | None = None
        self._refusals: dict[int, tuple[float, float]] = {}
        self._signs = Changes()
        self._is_draining = False

    async def run(self) -> None:
        """
        Borrow whenever there is nothing to hand out, until the own shard is closed and no other has work to lend.

        An error ends the borrowing, never the node.
        """
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001 - what is borrowed belongs to other nodes
            self._say(f"this node takes over no more work of others: {type(error).__name__}: {error}")
        finally:
            for borrowed in self._borrowed:
                borrowed.dispatcher.close()
            self._finished.set()

    async def finish(self) -> None:
        """Wait until there is nothing more to borrow; to be called when the own shard is closed."""
        self._stir.set()
        await self._finished.wait()

    def drain(self) -> None:
        """Borrow nothing more, and hand out nothing more of what is borrowed."""
        self._is_draining = True
        for borrowed in self._borrowed:
            borrowed.dispatcher.close()
        self._stir.set()

    async def close(self) -> None:
        """Return what is not done; no process may hold any of it."""
        if self._asking is not None:
            with contextlib.suppress(OSError, PrsError):
                await asyncio.to_thread(self._withdraw, self._asking)
        for borrowed in list(self._borrowed):
            borrowed.dispatcher.close()
            try:
                await self._end(borrowed, Closing.STOPPED)
            except (OSError, PrsError) as error:
                # Without a closing record the lender waits until this node has been silent for a while.
                self._say(f"the last commit of what was taken over failed: {error}")

    async def _run(self) -> None:
        own = self._work.own
        sought, idle_since = -math.inf, time.monotonic()
        while True:
            await self._check_loans()
            if self._borrowed:
                idle_since = time.monotonic()
            elif self._is_draining:
                return
            is_last = own.is_closed and not self._borrowed and not self._awaits_others(idle_since)
            is_seeking = not self._is_draining and self._work.find_for(0) is None
            if is_seeking and (is_last or time.monotonic() - sought > _SEEK_S):
                sought = time.monotonic()
                if not await self._borrow() and is_last:
                    return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stir.wait(), self._look_s if own.has_work_for(0) else self._poll_s)
            self._stir.clear()

    # What is borrowed

    async def _check_loans(self) -> None:
        for borrowed in list(self._borrowed):
            if borrowed.committing.done():
                borrowed.committing.result()
            if borrowed.dispatcher.done.is_set():
                await self._end(borrowed, Closing.DONE)
            elif borrowed.is_turn(self._check_s) and not await asyncio.to_thread(borrowed.work.is_newest):
                self._say(f"the mini-batches that shard {borrowed.work.shard.number} had lent were taken back")
                borrowed.dispatcher.close()
                await self._end(borrowed, None)

    async def _begin(self, request: Request, answer: LoanRecord) -> None:
        work = request.accept(answer, self._attempt.rows)
        dispatcher = self._make_dispatcher(work)
        self._borrowed.append(_Borrowed(work, dispatcher, asyncio.ensure_future(dispatcher.committer.run())))
        self._work.add(dispatcher)
        if self._is_draining:
            dispatcher.close()
        await asyncio.to_thread(dispatcher.show)
        # The first commit grants; nothing is handed out before.
        await dispatcher.try_alone([])

    async def _end(self, borrowed: _Borrowed, closing: Closing | None) -> None:
        self._borrowed.remove(borrowed)
        dispatcher = borrowed.dispatcher
        self._work.remove(dispatcher)
        dispatcher.committer.end()
        await borrowed.committing
        if closing is not None:
            # Before it is closed: the lender then adds what this shows to its own status.json.
            await asyncio.to_thread(dispatcher.show)
            await dispatcher.committer.commit(closing=closing)

    # Who is asked

    async def _borrow(self) -> bool:
        for state in await asyncio.to_thread(self._find_busy):
            answer = await self._ask(state)
            if answer.is_open:
                self._say(
                    f"nothing is left to hand out here, so mini-batches {answer.first} to {answer.end - 1} are taken "
                    f"over from shard {state.shard.number}"
                )
                return True
            _, wait_s = self._refusals.get(state.shard.number, (0.0, self._answer_s / 2))
            self._refusals[state.shard.number] = time.monotonic() + 2 * wait_s, 2 * wait_s
        return False

    async def _ask(self, state: ShardState) -> LoanRecord:
        request = self._asking = await asyncio.to_thread(self._folder.ask_for_loan, state, self._attempt)
        began = time.monotonic()
        while (answer := await asyncio.to_thread(request.read_answer)) is None:
            # Who has just ended its shard does not answer.
            state = await asyncio.to_thread(self._folder.read_shard, state.shard, state)
            if time.monotonic() - began > self._answer_s or not state.is_running:
                answer = await asyncio.to_thread(request.withdraw)
                break
            await asyncio.sleep(self._poll_s)
        self._asking = None
        if answer.is_open:
            await self._begin(request, answer)
        return answer

    def _withdraw(self, request: Request) -> None:
        answer = request.withdraw()
        if answer.is_open:
            work = request.accept(answer, self._attempt.rows)
            work.commit([], [], progress=Progress(), granted=answer.first, closing=Closing.STOPPED)

    def _find_busy(self) -> list[ShardState]:
        """Return the shards that are worth asking, the one with the most time to go first."""
        others = self._watcher.others
        if not all(map(self._has_begun, others)):
            # Airflow may be waiting for the place of this node to start that shard.
            return []
        now = time.monotonic()
        able = [state for state in others if state.is_running and state.not_handed_out > 0]
        able = [state for state in able if self._refusals.get(state.shard.number, (now, 0.0))[0] <= now]
        able = sorted(able, key=lambda state: state.not_handed_out, reverse=True)[:_MOST_ASKED]
        read = [self._folder.read_shard(state.shard, state) for state in able]
        left = [(self._left_s(state), state) for state in read if state.is_running]
        worth = [(left_s, state) for left_s, state in left if left_s > _WORTH_S]
        return [state for _, state in sorted(worth, key=lambda found: found[0], reverse=True)]

    def _awaits_others(self, idle_since: float) -> bool:
        """Whether there may soon be work to borrow, from a shard that has not begun or has not lent anything yet."""
        if time.monotonic() - idle_since > self._awaits_others_s:
            return False
        return any(
            not self._has_begun(state) or (state.is_running and state.not_handed_out > 0)
            for state in self._watcher.others
        )

    def _has_begun(self, state: ShardState) -> bool:
        """Whether a shard was claimed in this execution of plan, or a later one."""
        return state.epoch is not None and state.epoch.execution >= self._attempt.claim.epoch.execution

    def _left_s(self, state: ShardState) -> float:
        """Estimate the seconds until a node has handed out everything; 0 if it may be dead."""
        number = state.shard.number
        shown = self._folder.read_status(shard_status(number))
        if shown is None or self._signs.age_s(number, (state.number, shown)) > self._fresh_s:
            return 0.0
        rate = shown["mini_batches_per_s"]
        return float(state.not_handed_out / rate if rate else math.inf if state.not_handed_out else 0.0)
