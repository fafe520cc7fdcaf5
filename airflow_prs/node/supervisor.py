"""
The supervisor of a node: a desk between the queue of mini-batches and the slots of its worker processes.

Everything here runs in one event loop; only commits and looks at the run folder are done in threads beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import EntryScriptError, EnvironmentBrokenError, NodeError, PrsError
from airflow_prs.node.committing import Committer
from airflow_prs.node.process import WorkerProcess
from airflow_prs.node.queue import Hand, WorkQueue
from airflow_prs.node.slots import Failure, Slot, StartFailure, TimeLimits
from airflow_prs.node.tally import Tally
from airflow_prs.node.watching import LOOK_S, Watcher
from airflow_prs.records import Closing, FailedTry, MiniBatch, Outcome, Shard, Status, StoredVerdict
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.settings import RunSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable

_CLOCK_S = 0.05
_PROGRESS_S = 30.0
_ITEMS_SHOWN = 10
_START_FAILURES_PER_SLOT = 3
INIT_GRACE_S = 30

StartProcess = Callable[[Slot, Callable[[dict[str, Any]], None]], "Awaitable[WorkerProcess]"]


class VerdictError(PrsError):
    """A verdict binds this node."""

    def __init__(self, stored: StoredVerdict) -> None:
        self.stored = stored
        super().__init__(stored.verdict.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """
    What a node is to do, and what it works with.

    :param attempt: its claim to the shard.
    :param watcher: knows when to stop.
    :param processes: number of worker processes.
    :param start: starts one.
    :param log_of: path of a process's log inside the run folder.
    """

    folder: RunFolder
    settings: RunSettings
    shard: Shard
    attempt: Attempt
    watcher: Watcher
    processes: int
    start: StartProcess
    log_of: Callable[[str], str]
    logger: logging.Logger


class Supervisor:
    """
    Runs a shard to its end, or to a reason to stop.

    :param work: what to do.
    """

    def __init__(self, work: Work) -> None:
        config, inherited = work.settings.config, work.attempt.inheritance
        self._work = work
        self._most_tries = int(config.run_max_try)
        self._tally = Tally(inherited.progress, set(inherited.tries))
        skipped = inherited.done.copy()
        for index in inherited.suspects:
            skipped[index - work.shard.first] = True
        self._queue = WorkQueue(
            work.folder,
            work.shard,
            done=skipped,
            tries={i: n for i, n in inherited.tries.items() if i not in inherited.suspects},
            granted=work.attempt.claim.granted,
        )
        self._slots = [self._slot(number) for number in range(min(work.processes, self._pending))]
        self._committer = Committer(work.attempt, self._tally, self._queue, self._after_commit)
        self._alone: Hand | None = None
        self._is_alone = bool(inherited.suspects)
        self._answer: asyncio.Future[Hand | None] | None = None
        self._is_over = False
        self._start_failures = 0
        self._was_ready = False
        self._look_now = asyncio.Event()
        self._stir = asyncio.Event()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def tally(self) -> Tally:
        """The shard's counts."""
        return self._tally

    async def run(self) -> None:
        """
        Work until every mini-batch has an outcome.

        :raises VerdictError: if the run was aborted; its processes are gone.
        :raises SupersededError: if a later attempt has begun, or Airflow's supervisor is gone.
        :raises NodeError: if init() keeps failing.
        :raises EntryScriptError: if the entry script cannot be imported.
        :raises EnvironmentBrokenError: if the environment lacks a package.
        """
        if self._slots:
            await self._run_processes()
        else:
            await self._close(Closing.DONE)
        if (stored := await asyncio.to_thread(self._work.watcher.look)) is not None:
            raise VerdictError(stored)

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
            for slot in self._slots:
                slot.leave() if closing is Closing.DONE else slot.kill()
            self._stir.set()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._is_over = True
            self._committer.end()
            self._look_now.set()
            await _end_all(background)
            await self._close(closing)

    def stop(self, error: BaseException) -> None:
        """Stop for a reason from outside."""
        if not self._end.done():
            self._end.set_exception(error if isinstance(error, Exception) else NodeError(repr(error)))

    # The desk: what slots ask for and bring

    def next_hand(self, slot: Slot) -> Hand | None:
        """Take what a slot should do next."""
        if self._end.done():
            return None
        if self._is_alone:
            hand, self._alone = (self._alone, None) if slot is self._slots[0] else (None, self._alone)
        else:
            hand = self._queue.take()
            if self._queue.is_blocked:
                self._committer.hurry()
        if hand is not None:
            self._tally.count_handed_out(hand.try_number)
        return hand

    def take_outcome(self, outcome: Outcome) -> None:
        """Take the outcome of a mini-batch that succeeded."""
        self._tally.count(outcome)
        self._committer.add(outcome)
        self._reply(None)
        self._finish_if_done()

    def take_failure(self, failure: Failure) -> None:
        """Take a failed try: the next one is queued, or the mini-batch has failed for good."""
        hand = failure.hand
        index = hand.mini_batch.index
        is_final = hand.try_number >= self._most_tries
        self._committer.add_try(self._recorded(failure, is_final=is_final))
        tries = f"try {hand.try_number} of {self._most_tries}"
        self.say(f"{failure.process}: {tries} of mini-batch {index} failed: {failure.error}")
        if is_final:
            self._give_up(hand, failure)
        else:
            self._tally.count_failed_try(index)
            if self._work.settings.config.count_failed_tries:
                self._committer.hurry()
            if self._answer is not None:
                self._reply(Hand(hand.mini_batch, hand.try_number + 1))
            else:
                self._queue.try_again(hand)
                self._wake()

    def take_start_failure(self, failure: StartFailure) -> None:
        """Take a process that did not become ready; too many of them end the node."""
        if self._end.done():
            return
        self._start_failures += 1
        script = self._work.settings.config.entry_script
        text = f"{failure.traceback}\n{failure.error}".strip()
        if failure.stage == "environment":
            self.stop(EnvironmentBrokenError(text))
        elif failure.stage == "import":
            self.stop(EntryScriptError(f"{text}\n\nThe entry script {script} cannot be used; see the traceback above."))
        elif failure.stage == "timeout" and not self._was_ready:
            self.stop(
                NodeError(f"{text}, and no worker process was ever ready. Does init() of {script} wait for something?")
            )
        elif self._start_failures >= _START_FAILURES_PER_SLOT * len(self._slots):
            self.stop(
                NodeError(
                    f"{text}\n\ninit() of {script} failed {self._start_failures} times on this node, the last time as "
                    "shown above, so the node gives up. Airflow's retry of this task tries again."
                )
            )
        else:
            self.say(f"a worker process did not start ({failure.stage}): {text}")

    def give_back(self, hands: list[Hand]) -> None:
        """Take back what was not begun."""
        for hand in hands:
            self._tally.count_given_back(hand.try_number)
        if self._is_alone and hands:
            self._alone = hands[0]
        else:
            self._queue.put_back(hands)
        if hands:
            self._wake()

    def say(self, text: str) -> None:
        """Put a line into the task log."""
        self._work.logger.info("%s", text)

    def fair_share(self) -> int:
        """Say how many mini-batches a process may hold so that the others get theirs."""
        return 1 if self._is_alone else len(self._queue) // (2 * len(self._slots))

    async def start(self, slot: Slot, on_message: Callable[[dict[str, Any]], None]) -> WorkerProcess:
        """Start a worker process for a slot."""

        def hear(message: dict[str, Any]) -> None:
            self._was_ready = self._was_ready or "ready" in message
            on_message(message)

        return await self._work.start(slot, hear)

    # The parts that run beside the slots

    def _parts(self) -> list[Awaitable[None]]:
        return [self._work_off(), self._committer.run(), self._watch(), self._tick(), self._tell()]

    async def _work_off(self) -> None:
        """Try what a dead predecessor may have died of, one at a time; then let everybody work."""
        inherited = self._work.attempt.inheritance
        if self._is_alone:
            self._committer.is_granting = False
            self.say(
                f"the attempt before this one died with up to {len(inherited.suspects)} mini-batches in hand; "
                "they are tried first, one at a time"
            )
            for mini_batch in self._suspects(inherited.suspects):
                await self._try_alone(mini_batch)
        self._is_alone, self._answer, self._committer.is_granting = False, None, True
        await self._committer.commit()
        self._wake()

    def _suspects(self, indices: tuple[int, ...]) -> list[MiniBatch]:
        wanted = set(indices)
        found = self._work.folder.read_mini_batches(indices[0], indices[-1] + 1)
        return [mini_batch for mini_batch in found if mini_batch.index in wanted]

    async def _try_alone(self, mini_batch: MiniBatch) -> None:
        inherited = self._work.attempt.inheritance
        hand: Hand | None = Hand(mini_batch, inherited.tries.get(mini_batch.index, 0) + 1)
        if inherited.charged is not None and inherited.charged[0] == mini_batch.index:
            hand = self._charge(Hand(mini_batch, inherited.charged[1]))
        while hand is not None:
            await self._committer.commit(trying=(mini_batch.index, hand.try_number))
            self._answer = asyncio.get_running_loop().create_future()
            self._alone = hand
            self._wake()
            hand = await self._answer

    def _charge(self, hand: Hand) -> Hand | None:
        """Count the try during which the node died; None: it was the last one."""
        self._tally.count_handed_out(hand.try_number)
        error = "the node died during this mini-batch: its machine, its container or its Airflow task was killed"
        failure = Failure(
            hand=hand, status=Status.NODE_DIED, error=error, process="", started=time.time(), duration_s=0.0
        )
        self._answer = None
        is_final = hand.try_number >= self._most_tries
        self._committer.add_try(self._recorded(failure, is_final=is_final))
        if is_final:
            self._give_up(hand, failure)
            return None
        self._tally.count_failed_try(hand.mini_batch.index)
        return Hand(hand.mini_batch, hand.try_number + 1)

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker process in a slot while there is work for it."""
        while not self._end.done():
            if self._has_work_for(slot):
                await slot.live()
            else:
                self._stir.clear()
                await self._stir.wait()

    def _has_work_for(self, slot: Slot) -> bool:
        if self._is_alone:
            return slot is self._slots[0]
        return len(self._queue) > 0

    async def _watch(self) -> None:
        # Not ended by cancelling alone: before Python 3.12 wait_for() can lose a cancellation.
        while not self._is_over:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), LOOK_S)
            self._look_now.clear()
            stored = await asyncio.to_thread(self._work.watcher.look)
            if stored is not None:
                raise VerdictError(stored)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_CLOCK_S)
            for slot in self._slots:
                slot.check_clock()

    async def _tell(self) -> None:
        before, since = self._tally.progress(), time.monotonic()
        while True:
            await asyncio.sleep(_PROGRESS_S)
            now, progress = time.monotonic(), self._tally.progress()
            rate = (progress.done - before.done) / (now - since)
            left = progress.total - progress.done
            eta = f"{left / rate:.0f} s left" if rate else "no end in sight yet"
            self.say(
                f"{progress.done} of {progress.total} mini-batches done, {progress.failed} failed, "
                f"{rate:.3g} a second, {eta}"
            )
            before, since = progress, now

    # How it ends

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends a part ends the node, with that very error
            self.stop(error)

    def _fail_on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.stop(error)

    def _finish_if_done(self) -> None:
        if self._tally.progress().done == self._work.shard.count:
            self._finish()

    def _finish(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
        self._stir.set()

    async def _close(self, closing: Closing) -> None:
        try:
            if await asyncio.to_thread(self._work.attempt.is_newest):
                await self._committer.commit(closing=closing)
        except OSError as error:
            if closing is Closing.DONE:
                raise
            # The reason for stopping matters more; without a closing record the next attempt is careful.
            self.say(f"the last commit failed: {error}")

    # Small change

    @property
    def _pending(self) -> int:
        return int((~self._work.attempt.inheritance.done).sum())

    def _slot(self, number: int) -> Slot:
        config = self._work.settings.config
        run_s = float(config.run_invocation_timeout)
        load_s = self._work.settings.load_timeout_s or run_s
        limits = TimeLimits(run_s=run_s, load_s=load_s, init_s=3 * run_s + INIT_GRACE_S, shutdown_s=run_s)
        return Slot(number, self, limits, has_tables=self._work.settings.has_tables)

    def _give_up(self, hand: Hand, failure: Failure) -> None:
        outcome = Outcome(
            index=hand.mini_batch.index,
            status=failure.status,
            tries=hand.try_number,
            items=hand.mini_batch.items,
            started=failure.started,
            duration_s=failure.duration_s,
            run_s=failure.run_s,
            cpu_s=failure.cpu_s,
        )
        self._tally.count(outcome)
        self._committer.add(outcome)
        self._committer.hurry()
        self._reply(None)
        self._finish_if_done()

    def _recorded(self, failure: Failure, *, is_final: bool) -> FailedTry:
        mini_batch = failure.hand.mini_batch
        return FailedTry(
            index=mini_batch.index,
            try_number=failure.hand.try_number,
            final=is_final,
            status=failure.status,
            error=failure.error,
            traceback=failure.traceback,
            items=tuple(str(piece) for piece in mini_batch.pieces[:_ITEMS_SHOWN]),
            node=self._work.attempt.claim.node,
            process=failure.process,
            started=failure.started,
            duration_s=failure.duration_s,
            log=self._work.log_of(failure.process) if failure.process else "",
        )

    def _reply(self, hand: Hand | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(hand)

    def _wake(self) -> None:
        self._stir.set()
        for slot in self._slots:
            slot.feed()

    def _after_commit(self) -> None:
        self._look_now.set()
        if not self._is_alone:
            self._wake()


async def _end_all(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel until it is heard: before Python 3.12, wait_for swallows a cancellation that comes with its result."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CLOCK_S)
    await asyncio.gather(*tasks, return_exceptions=True)
