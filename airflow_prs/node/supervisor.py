"""
The supervisor of a node: keeps worker processes in its slots until the shard is done, or there is a reason to stop.

Everything here runs in one event loop; only commits and looks at the run folder run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from airflow_prs.errors import NodeError, PrsError, RunFolderError, SupersededError
from airflow_prs.node.lending.borrower import Borrower
from airflow_prs.node.lending.lender import Lender
from airflow_prs.node.processes.slot import Slot
from airflow_prs.node.processes.starting import Starter
from airflow_prs.node.reporting import Reporter
from airflow_prs.node.watching import Watcher
from airflow_prs.node.work.dispatcher import NodeWork, Signals
from airflow_prs.records import MiniBatch
from airflow_prs.run_folder.run_log import Abort
from airflow_prs.run_folder.shard_records import Closing

_CHECK_S = 0.05
_LATE_S = 0.5


class AbortError(PrsError):
    """An abort binds this node."""

    def __init__(self, abort: Abort) -> None:
        self.abort = abort
        super().__init__(abort.verdict.reason)


class Supervisor:
    """
    Runs a shard to its end, or to a reason to stop.

    :param slots: number of worker processes.
    :param starter: starts them.
    :param work: what they work on.
    :param signals: what the dispatchers of ``work`` set.
    :param lender: lends mini-batches to other nodes; None: nothing is lent.
    :param borrower: borrows from them; None: nothing is borrowed.
    :param suspects: mini-batches that may have killed the attempt before this one, in index order.
    :param stuck_s: seconds without any mini-batch done after which the node gives up; None: no limit.
    """

    def __init__(
        self,
        slots: int,
        starter: Starter,
        work: NodeWork,
        signals: Signals,
        *,
        suspects: list[MiniBatch],
        watcher: Watcher,
        lender: Lender | None,
        borrower: Borrower | None,
        reporter: Reporter,
        stuck_s: float | None,
    ) -> None:
        self._slots = [Slot(number, work, starter) for number in range(slots)]
        self._starter = starter
        self._intervals = starter.request.folder.intervals
        self._work = work
        self._dispatcher = work.own
        self._signals = signals
        self._suspects = suspects
        self._watcher = watcher
        self._lender = lender
        self._borrower = borrower
        self._reporter = reporter
        self._stuck_s = stuck_s
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_over = False
        self._is_through = False
        self._is_draining = False
        self._has_shown_end = False

    async def run(self) -> None:
        """
        Work until every mini-batch has an outcome.

        :raises AbortError: if the run was aborted before every mini-batch had an outcome; the processes are gone.
        :raises SupersededError: if a later attempt has begun, or Airflow's supervisor is gone.
        :raises NodeError: if init() keeps failing.
        :raises EntryScriptError: if the entry script cannot be imported, or its init() cannot succeed.
        :raises EnvironmentBrokenError: if the environment lacks a package.
        """
        try:
            if self._slots:
                await self._run_processes()
            else:
                await self._close(Closing.DONE)
        except AbortError:
            if not self._dispatcher.done.is_set():
                raise
        finally:
            if not self._has_shown_end:
                await asyncio.to_thread(self._reporter.show_end)
        # The last failures may abort the other shards. This one is done, whatever becomes of the run.
        if (abort := await asyncio.to_thread(self._watcher.look)) is not None:
            self._starter.say(f"the run is aborted: {abort.verdict.reason}. This shard is done, so its task succeeds")

    def stop(self, error: BaseException) -> None:
        """Stop for a reason from outside; once the shard is done, only what forbids all work is an error."""
        if self._end.done():
            return
        if self._is_through and not isinstance(error, SupersededError):
            self._starter.say(f"this node ends, its shard is done: {type(error).__name__}: {error}")
            self._end.set_result(None)
        else:
            self._end.set_exception(error if isinstance(error, Exception) else NodeError(repr(error)))

    async def _run_processes(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._stop_on_error)
        background = [asyncio.ensure_future(self._guarded(part)) for part in self._parts()]
        keepers = [asyncio.ensure_future(self._guarded(self._keep(slot))) for slot in self._slots]
        closing = Closing.STOPPED
        try:
            await self._end
            closing = Closing.DONE
        except AbortError:
            closing = Closing.ABORTED
            raise
        finally:
            self._dispatcher.close()
            is_idle_spared = closing is Closing.DONE or (closing is Closing.ABORTED and self._is_draining)
            for slot in self._slots:
                # A process may hold a mini-batch that another node has taken back: that one is killed.
                slot.stop(is_idle_spared=is_idle_spared)
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._end_parts(background)
            if self._borrower is not None:
                await self._borrower.close()
            if not self._is_through:
                # The last answers may have come since.
                is_done = self._dispatcher.done.is_set() and closing is Closing.ABORTED
                await self._close(Closing.DONE if is_done else closing)

    # The parts that run beside each other

    def _parts(self) -> list[Awaitable[None]]:
        return [
            self._dispatcher.try_alone(self._suspects),
            self._dispatcher.committer.run(),
            *([] if self._borrower is None else [self._borrower.run()]),
            self._finish(),
            self._watch(),
            self._feed(),
            self._check(),
            self._check_progress(),
            *self._reporter.parts(lambda: [slot.process for slot in self._slots if slot.process is not None]),
        ]

    async def _end_parts(self, parts: Sequence[asyncio.Future[None]]) -> None:
        # Not by cancelling alone: before Python 3.12 wait_for() can lose a cancellation.
        self._is_over = True
        self._dispatcher.committer.end()
        self._signals.committed.set()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker process in a slot while there is work for it."""
        while not self._end.done():
            await slot.wait_for_work()
            if not self._end.done() and (failure := await slot.run_process()) is not None and not self._end.done():
                was_ready = any(other.was_ready for other in self._slots)
                self._starter.take_failure(failure, slots=len(self._slots), was_ready=was_ready)

    async def _finish(self) -> None:
        await self._dispatcher.done.wait()
        if self._end.done():
            return
        # Commit now: neither shutdown() nor the loans of other shards may delay it.
        self._dispatcher.close()
        await self._close(Closing.DONE)
        self._is_through = True
        if self._borrower is not None:
            await self._borrower.finish()
        if not self._end.done():
            self._end.set_result(None)

    async def _watch(self) -> None:
        while not self._is_over:
            abort = await asyncio.to_thread(self._watcher.look)
            if abort is not None:
                self._drain(abort)
            # Before this look the node may have been blind, and handed out nothing.
            self._signals.work.set()
            if self._lender is not None and not self._dispatcher.is_closed and self._watcher.is_turn_of_requests:
                await self._lender.serve()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._signals.committed.wait(), self._intervals.look_s)
            self._signals.committed.clear()

    def _drain(self, abort: Abort) -> None:
        """
        Stop for an abort; for a drain not before the processes have nothing more in hand.

        :raises AbortError: if it is time to stop.
        """
        if not abort.is_drain:
            self._is_draining = False
            raise AbortError(abort)
        if not self._is_draining:
            self._is_draining = True
            self._starter.say(f"{abort.verdict.reason}: nothing more is handed out, what runs may finish")
            self._dispatcher.close()
            if self._borrower is not None:
                self._borrower.drain()
            for slot in self._slots:
                slot.recall()
        if not any(slot.is_busy for slot in self._slots):
            raise AbortError(abort)

    async def _feed(self) -> None:
        while True:
            await self._signals.work.wait()
            self._signals.work.clear()
            for slot in self._slots:
                slot.feed()
            if any(slot.is_idle for slot in self._slots):
                # One that is idle may begin now with what another one has only loaded.
                for slot in self._slots:
                    slot.recall()
            for dispatcher in self._work:
                dispatcher.stage_ahead()

    async def _check(self) -> None:
        while True:
            late_s = await _sleep(_CHECK_S)
            for slot in self._slots:
                slot.check(late_s)
            if any(dispatcher.has_waited for dispatcher in self._work):
                self._signals.work.set()

    async def _check_progress(self) -> None:
        limit_s = self._stuck_s
        done, since = self._dispatcher.progress().done, time.monotonic()
        while limit_s is not None and not self._is_through:
            since += await _sleep(min(1.0, limit_s))
            if (now_done := self._dispatcher.progress().done) != done:
                done, since = now_done, time.monotonic()
            elif time.monotonic() - since > limit_s:
                raise NodeError(f"no mini-batch was done within {limit_s:g} seconds (progress_update_timeout)")

    # How it ends

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except Exception as error:  # noqa: BLE001 - an error of any part ends the node with that error
            self.stop(error)

    def _stop_on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.stop(error)

    async def _close(self, closing: Closing) -> None:
        try:
            if await asyncio.to_thread(self._starter.attempt.is_newest):
                await self._dispatcher.committer.commit(closing=closing)
                shows: list[Callable[[], None]] = [self._dispatcher.show]
                if closing is not Closing.DONE:
                    self._has_shown_end = True
                    shows.append(self._reporter.show_end)
                await asyncio.gather(*map(asyncio.to_thread, shows))
        except (OSError, RunFolderError) as error:
            if closing is Closing.DONE:
                raise
            # The reason for stopping matters more; without a closing record the next attempt is careful.
            self._starter.say(f"the last commit failed: {error}")


async def _sleep(seconds: float) -> float:
    """
    Sleep.

    :return: seconds by which it took too long because the event loop or this entire process stood still; else 0.
    """
    began = time.monotonic()
    await asyncio.sleep(seconds)
    late_s = time.monotonic() - began - seconds
    return late_s if late_s > _LATE_S else 0.0
