"""
The supervisor of a node: keeps worker processes in its slots until the shard is done, or there is a reason to stop.

Everything here runs in one event loop; only commits and looks at the run folder are done in threads beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_prs.errors import (
    EntryScriptError,
    EnvironmentBrokenError,
    NodeError,
    PrsError,
    RunFolderError,
    SupersededError,
)
from airflow_prs.node.lending.borrower import Helper
from airflow_prs.node.lending.lender import Lender
from airflow_prs.node.machine.resources import ResourceLog
from airflow_prs.node.pace import Pace
from airflow_prs.node.processes.process import Message, WorkerProcess
from airflow_prs.node.processes.protocols import Desk, Rules, StartFailure
from airflow_prs.node.processes.slots import Slot
from airflow_prs.node.run_status import SHOW_S, RunStatus
from airflow_prs.node.watching import LOOK_S, Watcher
from airflow_prs.node.work.desk import ShardDesk
from airflow_prs.records import MiniBatch
from airflow_prs.run_folder.attempt_records import Closing, StoredVerdict
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder

_CHECK_S = 0.05
_LATE_S = 0.5
_PROGRESS_S = 30.0
_BLIND_S = 5.0
_START_FAILURES_PER_SLOT = 3


class VerdictError(PrsError):
    """A verdict binds this node."""

    def __init__(self, stored: StoredVerdict) -> None:
        self.stored = stored
        super().__init__(stored.verdict.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """
    What a supervisor works with.

    :param desk: has the work.
    :param attempt: this node's claim to the shard.
    :param watcher: knows when to stop.
    :param folder: the run folder.
    :param make_loan_desk: makes the desk of mini-batches that are taken over from another node.
    :param lends: whether mini-batches go from node to node.
    :param run_status: shows how far the whole run is.
    :param slots: number of worker processes.
    :param rules: how they are treated.
    :param suspects: what a predecessor may have died of, in index order.
    :param start: starts a worker process for a slot.
    :param resources: where samples of what the machine and the processes use go.
    :param sample_s: seconds between samples; 0: none.
    :param stuck_s: seconds without any mini-batch done after which the node gives up; None: for ever.
    :param entry_script: the script's name, for errors.
    :param explain_import: names what an environment lacks, given the error of an import; '' otherwise.
    :param tell_progress: is told how far the shard is whenever the task log is.
    :param logger: the task's.
    """

    desk: ShardDesk
    attempt: Attempt
    watcher: Watcher
    folder: RunFolder
    make_loan_desk: Callable[[Attempt], ShardDesk]
    lends: bool
    run_status: RunStatus
    slots: int
    rules: Rules
    suspects: list[MiniBatch]
    start: Callable[[int, Callable[[list[Message]], None]], Awaitable[WorkerProcess]]
    resources: ResourceLog
    sample_s: float
    stuck_s: float | None
    entry_script: str
    explain_import: Callable[[str], str]
    tell_progress: Callable[[Mapping[str, Any]], None]
    logger: logging.Logger


class Supervisor:
    """
    Runs a shard to its end, or to a reason to stop.

    :param crew: what it works with.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._desk = crew.desk
        self._slots = [Slot(number, crew.desk, self, crew.rules) for number in range(crew.slots)]
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_over = False
        self._is_through = False
        self._start_failures = 0
        self._look_now = asyncio.Event()
        self._stir = asyncio.Event()
        self._looked_at = time.monotonic()
        self._look_took_s = 0.0
        self._lender = Lender(crew.attempt, crew.desk, self.say)
        self._helper = Helper(
            crew.folder, crew.attempt, crew.watcher, self._make_loan_desk, on_work=self._wake, say=self.say
        )
        crew.desk.is_blind = self._is_blind
        crew.desk.on_work = self._wake
        crew.desk.committer.on_commit = self._after_commit

    async def run(self) -> None:
        """
        Work until every mini-batch has an outcome.

        :raises VerdictError: if the run was aborted; the processes are gone.
        :raises SupersededError: if a later attempt has begun, or Airflow's supervisor is gone.
        :raises NodeError: if init() keeps failing.
        :raises EntryScriptError: if the entry script cannot be imported, or its init() cannot succeed.
        :raises EnvironmentBrokenError: if the environment lacks a package.
        """
        if self._slots:
            await self._run_processes()
        else:
            await self._close(Closing.DONE)
        # A run should end the same way however fast its last mini-batches were.
        if (stored := await asyncio.to_thread(self._crew.watcher.look)) is not None:
            raise VerdictError(stored)

    def stop(self, error: BaseException) -> None:
        """Stop for a reason from outside; once the shard is done only what forbids all work is an error."""
        if self._end.done():
            return
        if self._is_through and not isinstance(error, VerdictError | SupersededError):
            self.say(f"this node ends, its shard is done: {type(error).__name__}: {error}")
            self._end.set_result(None)
        else:
            self._end.set_exception(error if isinstance(error, Exception) else NodeError(repr(error)))

    async def _run_processes(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._fail_on_error)
        background = [asyncio.ensure_future(self._guarded(part)) for part in self._parts()]
        keepers = [asyncio.ensure_future(self._guarded(self._keep(slot))) for slot in self._slots]
        closing = Closing.STOPPED
        try:
            await self._end
            closing = Closing.DONE
        except VerdictError:
            closing = Closing.ABORTED
            raise
        finally:
            self._desk.is_closed = True
            for slot in self._slots:
                # Busy with what another node has taken back is as good as idle.
                slot.leave() if closing is Closing.DONE and not slot.is_busy else slot.kill()
            self._stir.set()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._end_parts(background)
            await self._helper.close()
            if not self._is_through:
                await self._close(closing)

    # What slots need

    def desk_for(self, slot: int, before: Desk) -> Desk:
        """Find the desk that a slot with nothing in hand should turn to: the shard's own comes first."""
        return next((desk for desk in self._desks if desk.has_work_for(slot)), before)

    async def start(self, slot: int, on_messages: Callable[[list[Message]], None]) -> WorkerProcess:
        """Start a worker process for a slot."""
        return await self._crew.start(slot, on_messages)

    def take_start_failure(self, failure: StartFailure) -> None:
        """Take a process that did not become ready; too many of them end the node."""
        if self._end.done():
            return
        self._start_failures += 1
        error = self._reason_to_give_up(failure)
        if error is not None:
            self.stop(error)
        else:
            self.say(f"a worker process did not start ({failure.stage}): {failure.traceback or failure.error}")

    def say(self, text: str) -> None:
        """Put a line into the task log."""
        self._crew.logger.info("%s", text)

    def _reason_to_give_up(self, failure: StartFailure) -> PrsError | None:
        script = self._crew.entry_script
        shown = f"\n\n{failure.traceback.rstrip()}" if failure.traceback else ""
        if failure.stage == "environment":
            return EnvironmentBrokenError(failure.traceback.rstrip() or failure.error)
        was_ready = any(slot.was_ready for slot in self._slots)
        if failure.is_final or (failure.is_hopeless and not was_ready):
            is_import = failure.stage == "import"
            what = f"The entry script {script} cannot be used" if is_import else f"init() of {script} cannot succeed"
            hint = self._crew.explain_import(failure.error) or "Correct the script or its arguments."
            return EntryScriptError(f"{what}: {failure.error}. Another try would not change that. {hint}{shown}")
        if failure.stage == "timeout" and not was_ready:
            return NodeError(
                f"{failure.error}, and no worker process was ever ready: does init() of {script} wait for something?"
                f"{shown}"
            )
        if self._start_failures >= _START_FAILURES_PER_SLOT * len(self._slots):
            return NodeError(
                f"init() of {script} failed {self._start_failures} times on this node, the last time with "
                f"{failure.error}. Correct it, or what it needs.{shown}"
            )
        return None

    # The parts that run beside each other

    def _parts(self) -> list[Awaitable[None]]:
        return [
            self._desk.try_alone(self._crew.suspects),
            self._desk.committer.run(),
            self._finish(),
            self._watch(),
            self._check(),
            self._show(),
            self._show_run(),
            self._sample(),
            self._tell(),
            self._mind_progress(),
            *([self._helper.run(self._desk)] if self._crew.lends else []),
        ]

    async def _end_parts(self, parts: Sequence[asyncio.Future[None]]) -> None:
        # Not by cancelling alone: before Python 3.12 wait_for() can lose a cancellation.
        self._is_over = True
        self._desk.committer.end()
        self._look_now.set()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker process in a slot while there is work for it."""
        while not self._end.done():
            if any(desk.has_work_for(slot.number) for desk in self._desks):
                await slot.live()
            else:
                self._stir.clear()
                await self._stir.wait()

    async def _finish(self) -> None:
        await self._desk.is_done.wait()
        if self._end.done():
            return
        # What is done is durable at once; neither shutdown() nor other shards have anything to do with it.
        self._desk.is_closed = True
        await self._close(Closing.DONE)
        self._is_through = True
        if self._crew.lends:
            self._helper.stir.set()
            await self._helper.is_finished.wait()
        if not self._end.done():
            self._end.set_result(None)

    async def _watch(self) -> None:
        while not self._is_over:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), LOOK_S)
            self._look_now.clear()
            began = time.monotonic()
            stored = await asyncio.to_thread(self._crew.watcher.look)
            if stored is not None:
                raise VerdictError(stored)
            if self._crew.lends and not self._desk.is_closed:
                await self._lender.mind()
            was_blind = self._is_blind()
            self._looked_at = time.monotonic()
            self._look_took_s = self._looked_at - began
            if was_blind:
                self._wake()

    def _is_blind(self) -> bool:
        """
        Whether the last look is so old that something may have happened which forbids to go on.

        So it is when this process was stopped for a while: another attempt may have taken the shard over.
        """
        return time.monotonic() - self._looked_at > _BLIND_S + 3 * self._look_took_s

    async def _check(self) -> None:
        while True:
            late_s = await _sleep(_CHECK_S)
            for slot in self._slots:
                slot.check(late_s)
            if any(desk.has_waited for desk in self._desks):
                self._wake()

    async def _show(self) -> None:
        while True:
            await asyncio.to_thread(self._desk.show)
            await asyncio.to_thread(self._helper.show)
            await asyncio.sleep(SHOW_S)

    async def _show_run(self) -> None:
        times = 1.0
        while True:
            await asyncio.sleep(SHOW_S * times)
            # Nothing depends on it, so what is wrong with the storage is left to commits to find.
            with contextlib.suppress(OSError):
                times = await asyncio.to_thread(self._crew.run_status.write)

    async def _sample(self) -> None:
        while self._crew.sample_s > 0:
            await asyncio.sleep(self._crew.sample_s)
            processes = [slot.process for slot in self._slots if slot.process is not None]
            await asyncio.to_thread(self._crew.resources.sample, processes)

    async def _tell(self) -> None:
        before, since = self._desk.progress(), time.monotonic()
        while not self._is_through:
            await asyncio.sleep(_PROGRESS_S)
            now = time.monotonic()
            pace = Pace(before=before, now=self._desk.progress(), seconds=now - since)
            self.say(str(pace))
            self._crew.tell_progress(pace.numbers())
            before, since = pace.now, now

    async def _mind_progress(self) -> None:
        limit_s = self._crew.stuck_s
        done, since = self._desk.progress().done, time.monotonic()
        while limit_s is not None and not self._is_through:
            since += await _sleep(min(1.0, limit_s))
            if (now_done := self._desk.progress().done) != done:
                done, since = now_done, time.monotonic()
            elif time.monotonic() - since > limit_s:
                raise NodeError(f"no mini-batch was done within {limit_s:g} seconds (progress_update_timeout)")

    @property
    def _desks(self) -> list[ShardDesk]:
        return [self._desk, *self._helper.desks]

    def _make_loan_desk(self, attempt: Attempt) -> ShardDesk:
        desk = self._crew.make_loan_desk(attempt)
        desk.is_blind = self._is_blind
        return desk

    def _wake(self) -> None:
        self._stir.set()
        for slot in self._slots:
            slot.feed()

    def _after_commit(self) -> None:
        self._look_now.set()
        self._wake()

    # How it ends

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except Exception as error:  # noqa: BLE001 - whatever ends a part ends the node, with that very error
            self.stop(error)

    def _fail_on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.stop(error)

    async def _close(self, closing: Closing) -> None:
        try:
            if await asyncio.to_thread(self._crew.attempt.is_newest):
                await self._desk.committer.commit(closing=closing)
                await asyncio.to_thread(self._desk.show)
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._crew.run_status.write_last, self._crew.watcher.others)
        except (OSError, RunFolderError) as error:
            if closing is Closing.DONE:
                raise
            # The reason for stopping matters more; without a closing record the next attempt is careful.
            self.say(f"the last commit failed: {error}")


async def _sleep(seconds: float) -> float:
    """
    Sleep.

    :return: how many seconds too long it took: the event loop, or this entire process, stood still; 0 for a trifle.
    """
    began = time.monotonic()
    await asyncio.sleep(seconds)
    late_s = time.monotonic() - began - seconds
    return late_s if late_s > _LATE_S else 0.0
