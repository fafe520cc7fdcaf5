"""
A slot: starts a worker process, hands it mini-batches, enforces its time limits, and replaces it.

Where mini-batches are short, a process holds several, enough for some milliseconds. It works on one at a time and
answers each immediately; the slot reads the answers in groups. Where loading takes long, a process asks for one more,
which it loads while run() works, and one in reserve. An asynchronous entry script works on several at the same time.
Time limits apply to the mini-batches that are running.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_prs.node.machine.memory import used_bytes
from airflow_prs.node.processes.process import Message, WorkerProcess
from airflow_prs.node.processes.starting import Starter, why_not_ready
from airflow_prs.node.processes.wire import StartFailure, failure_of, order_of, outcome_of
from airflow_prs.node.work.dispatcher import Dispatcher, NodeWork
from airflow_prs.node.work.failed_tries import Failure
from airflow_prs.node.work.queue import Assignment
from airflow_prs.records import TryStatus
from airflow_prs.worker.channel import Revision

_AHEAD_S = 0.04
_MOST_AHEAD = 512
_SHORTEST_REST_S, _LONGEST_REST_S = 0.001, 0.005
_MOST_FAILED_TRIES = 10
_SMOOTHING = 0.2
_CANCEL_S = 5.0
_MEMORY_CHECK_S = 1.0
_EXIT_GRACE_S = 5.0
"""Added to exit_timeout_s, so that the process can end itself and report what blocked it."""
_MIB = 1024 * 1024
_STAGES = ("loading", "loaded", "running")


@dataclass(slots=True)
class _Held:
    """
    A mini-batch that a process holds.

    :param since: when it began to work on it; 0: not yet.
    :param loads_since: since when it is being loaded while run() works on another one; 0: it is not.
    :param is_running: whether run() was called; until then it is being loaded.
    """

    assignment: Assignment
    since: float = 0.0
    loads_since: float = 0.0
    is_running: bool = False
    is_cancelled: bool = False

    def enter(self, stage: str) -> None:
        """Note what the process does with it now: one of _STAGES."""
        if stage == "running":
            self.since, self.is_running = time.monotonic(), True
        else:
            self.loads_since = time.monotonic() if stage == "loading" else 0.0


@dataclass(slots=True)
class _Life:
    """
    The state of one worker process.

    :param ahead: how many mini-batches it asks for in addition, to load them while run() works on another one.
    :param is_recalled: whether it was asked to return the mini-batches that run() has not begun with.
    :param is_asking: whether it waits for an answer about the layout of rows.
    """

    process: WorkerProcess
    began: float
    pid: int = 0
    is_ready: bool = False
    concurrency: int = 1
    ahead: int = 0
    is_recalled: bool = False
    is_asking: bool = False
    is_leaving: bool = False
    leaving_since: float = 0.0
    has_shutdown: bool = False
    ending_since: float = 0.0
    replaced_because: str = ""
    answers: int = 0
    failed_tries: int = 0
    checked: float = 0.0
    memory_checked: float = 0.0
    killed_for: tuple[int, TryStatus] | None = None
    held: dict[int, _Held] = field(default_factory=dict)
    start_failure: StartFailure | None = None

    @property
    def name(self) -> str:
        return self.process.plan.name

    def exclude(self, seconds: float, now: float) -> None:
        """Exclude the last seconds from all that is measured against a limit."""
        self.began = min(now, self.began + seconds)
        self.leaving_since = min(now, self.leaving_since + seconds)
        if 0 < self.ending_since < math.inf:
            self.ending_since = min(now, self.ending_since + seconds)
        for held in self.held.values():
            if held.since:
                held.since = min(now, held.since + seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotProcess:
    """
    A worker process that is ready.

    :param dispatcher: what it works on.
    :param mini_batch: the mini-batch that it has worked on for longest; None: it is idle.
    :param since: when it began with it, in seconds since the epoch.
    """

    name: str
    pid: int
    dispatcher: Dispatcher
    mini_batch: int | None = None
    since: float = 0.0


class Slot:
    """
    Runs one worker process at a time.

    :param number: from 0, within the node.
    :param work: what the process may work on.
    :param starter: starts the process, and knows its limits.

    ``was_ready`` says whether a process of this slot ever became ready.
    """

    def __init__(self, number: int, work: NodeWork, starter: Starter) -> None:
        self._number = number
        self._work = work
        self._dispatcher: Dispatcher = work.own
        self._starter = starter
        self._policy = starter.policy
        self._stir = asyncio.Event()
        self._life: _Life | None = None
        self.was_ready = False
        self._is_over = False
        self._seconds_each = 0.0

    @property
    def process(self) -> SlotProcess | None:
        """The worker process, if it is ready."""
        life = self._life
        if life is None or not life.is_ready:
            return None
        known: dict[str, Any] = {"name": life.name, "pid": life.pid, "dispatcher": self._dispatcher}
        for index, held in life.held.items():
            if held.since:
                since = round(time.time() - (time.monotonic() - held.since), 2)
                return SlotProcess(**known, mini_batch=index, since=since)
        return SlotProcess(**known)

    @property
    def is_busy(self) -> bool:
        """Whether the process holds mini-batches."""
        return self._life is not None and bool(self._life.held)

    @property
    def is_idle(self) -> bool:
        """Whether a process is ready, and there is nothing for it to do."""
        life = self._life
        is_waiting = life is not None and life.is_ready and not (life.held or life.is_leaving or life.replaced_because)
        return is_waiting and self._work.find_for(self._number) is None

    async def wait_for_work(self) -> None:
        """Wait until there is something to do, or the slot is over."""
        while not self._is_over and self._work.find_for(self._number) is None:
            self._stir.clear()
            await self._stir.wait()

    async def run_process(self) -> StartFailure | None:
        """
        Run one worker process from its start to its end.

        :return: why it did not become ready; None: it did.
        """
        early: list[Message] = []
        process = await self._starter.start(self._number, lambda messages: self._take_messages(messages, early))
        self._life = _Life(process=process, began=time.monotonic())
        if self._is_over:
            process.kill()
        self._take_messages(early, [])
        await process.wait()
        life, self._life = self._life, None
        if life.held:
            self._report_end(life)
        return None if life.is_ready else life.start_failure or why_not_ready(life.process)

    def feed(self) -> None:
        """Hand out as much as the process should hold."""
        life = self._life
        if life is None:
            self._stir.set()
            return
        if not life.is_ready or life.is_leaving or life.replaced_because:
            return
        if not life.held:
            self._dispatcher = self._work.find_for(self._number) or self._dispatcher
        depth = self._depth(life)
        orders = []
        while len(life.held) < depth:
            assignment = self._dispatcher.next_assignment(slot=self._number, may_be_alone=not life.held)
            if assignment is None:
                break
            life.held[assignment.mini_batch.index] = _Held(assignment)
            orders.append(order_of(assignment, has_tables=self._policy.has_tables))
            if assignment.is_alone:
                break
        if orders:
            self._start_clock(life)
            life.process.send({"run": orders})

    def recall(self) -> None:
        """Ask the process to return the mini-batches that it has loaded ahead, or would load next."""
        life = self._life
        if life is not None and life.ahead and len(life.held) > 1 and not life.is_recalled:
            life.is_recalled = True
            life.process.send({"recall": True})

    def stop(self, *, is_idle_spared: bool) -> None:
        """
        End the process with everything that it has started, also one that is about to start.

        :param is_idle_spared: whether one that is ready and holds nothing may call shutdown() and exit.
        """
        self._is_over = True
        self._stir.set()
        life = self._life
        if life is None:
            return
        if is_idle_spared and life.is_ready and not life.held:
            self._let_go(life)
        else:
            life.process.kill()

    def check(self, late_s: float = 0.0) -> None:
        """
        Kill the process if it exceeds a time limit; mark it for replacement if it exceeds the memory limit.

        :param late_s: seconds during which this node read nothing, so that the process may have waited for it.
        """
        life, now = self._life, time.monotonic()
        if life is None or life.killed_for is not None:
            return
        checked, life.checked = life.checked or now, now
        waits_for_storage = life.is_asking or life.process.is_held_up
        life.exclude(max(late_s, now - checked) if waits_for_storage else late_s, now)
        if life.ending_since:
            self._check_exit(life, now)
        elif not life.is_ready:
            self._check_start(life, now)
        elif life.is_leaving:
            self._check_shutdown(life, now)
        else:
            self._check_tries(life, now)
            self._check_memory(life, now)

    # What the process gets

    def _depth(self, life: _Life) -> int:
        """Return how many mini-batches the process should hold."""
        if life.is_recalled or any(held.assignment.is_alone for held in life.held.values()):
            return 0
        share = self._dispatcher.fair_share()
        if life.concurrency == 1:
            short = int(_AHEAD_S / max(self._seconds_each, 1e-6)) if self._seconds_each else 0
            loaded = min(1 + life.ahead, self._dispatcher.fair_share(in_hand=1))
            depth = max(1, min(1 + min(_MOST_AHEAD, short), share // 2), loaded)
        else:
            depth = max(1, min(life.concurrency, share))
        if self._policy.most_mini_batches is not None:
            depth = min(depth, self._policy.most_mini_batches - life.answers)
        return depth

    def _start_clock(self, life: _Life) -> None:
        """Start the clock of the mini-batches that the process works on."""
        now = time.monotonic()
        for held in itertools.islice(life.held.values(), life.concurrency):
            if not held.since:
                held.since, held.is_running = now, not self._policy.has_tables

    # What the process answers

    def _take_messages(self, messages: list[Message], early: list[Message]) -> None:
        life = self._life
        if life is None:  # start() has not returned yet
            early += messages
            return
        for message in messages:
            if (done := message.get("done")) is not None:
                assignment = self._pop(life, done.minibatch_index, done.duration_s)
                outcome = outcome_of(assignment, done, process=life.process.plan.number)
                self._dispatcher.take_success(assignment, outcome)
            elif not self._take_progress(life, message):
                self._take_other(life, message)
        self._start_clock(life)
        self._after_answers(life)

    def _take_progress(self, life: _Life, message: Message) -> bool:
        """Take what a process reports about mini-batches that it holds; return False for other messages."""
        [(name, value)] = message.items()
        if name == "ahead":
            life.ahead = value
        elif name == "returned":
            life.is_recalled = False
            returned = [life.held.pop(index).assignment for index in value]
            self._dispatcher.take_end([], returned, overdue=None)
        elif name in _STAGES:
            if value in life.held:
                life.held[value].enter(name)
        else:
            return False
        return True

    def _take_other(self, life: _Life, message: Message) -> None:
        if (failed := message.get("try_failed")) is not None:
            self._take_failed_try(life, failed)
        elif (ready := message.get("ready")) is not None:
            # A script whose run() is not asynchronous works on one at a time, whatever the configuration allows.
            life.is_ready, life.pid, life.concurrency = True, ready["pid"], ready["concurrency"]
            life.has_shutdown = ready["has_shutdown"]
            self.was_ready = True
        elif (failed := message.get("failed")) is not None:
            life.start_failure, life.ending_since = StartFailure(**failed), time.monotonic()
        elif (question := message.get("layout")) is not None:
            life.is_asking = True
            self._starter.layout.ask(question, partial(self._answer, life))
        elif "leaving" in message:
            life.ending_since = time.monotonic()
        elif (note := message.get("note")) is not None:
            self._starter.say(f"{life.name}: {note}")
        elif (lines := message.get("log")) is not None:
            life.process.log_for_script(lines)

    def _answer(self, life: _Life, answer: Revision) -> None:
        life.is_asking = False
        if life is self._life:
            life.process.send({"layout": answer})

    def _take_failed_try(self, life: _Life, failed: dict[str, Any]) -> None:
        life.failed_tries += 1
        assignment = self._pop(life, failed["index"], failed["duration_s"])
        self._dispatcher.take_failure(failure_of(assignment, failed, process=life.name))

    def _pop(self, life: _Life, index: int, duration_s: float) -> Assignment:
        life.answers += 1
        before = self._seconds_each or duration_s
        self._seconds_each = before + _SMOOTHING * (duration_s - before)
        return life.held.pop(index).assignment

    def _after_answers(self, life: _Life) -> None:
        most = self._policy.most_mini_batches
        if life.failed_tries > _MOST_FAILED_TRIES:
            self._replace(life, f"more than {_MOST_FAILED_TRIES} tries failed in it")
        elif most is not None and life.answers >= most:
            self._replace(life, f"it has worked on {life.answers} mini-batches (max_mini_batches_per_process)")
        if life.replaced_because and not life.held:
            self._let_go(life)
        else:
            self.feed()
            self._rest(life)

    def _rest(self, life: _Life) -> None:
        """Read nothing for a moment while the process has enough to do."""
        rest_s = min(len(life.held) * self._seconds_each / 2, _LONGEST_REST_S)
        if life.concurrency == 1 and rest_s >= _SHORTEST_REST_S and not self._policy.has_tables:
            life.process.rest(rest_s)

    # Its limits

    def _check_exit(self, life: _Life, now: float) -> None:
        limit_s = self._policy.exit_s + _EXIT_GRACE_S
        if now - life.ending_since > limit_s:
            self._kill_leaving(life, f"it had not ended {limit_s:g} seconds after its work was done (exit_timeout_s)")

    def _check_start(self, life: _Life, now: float) -> None:
        if now - life.began > self._policy.init_s and life.start_failure is None:
            error = f"init() did not finish within {self._policy.init_s:g} seconds"
            life.start_failure = StartFailure(stage="timeout", error=error)
            life.process.kill()

    def _check_shutdown(self, life: _Life, now: float) -> None:
        if now - life.leaving_since > self._policy.shutdown_s:
            what = "shutdown()" if life.has_shutdown else "the event loop of the script"
            self._kill_leaving(life, f"{what} did not come to an end within {self._policy.shutdown_s:g} seconds")

    def _check_tries(self, life: _Life, now: float) -> None:
        for index, held in life.held.items():
            limit_s = self._policy.run_s if held.is_running else self._policy.load_s
            if held.is_cancelled:
                limit_s += _CANCEL_S
            if not held.since or now - held.since <= limit_s:
                continue
            status = TryStatus.RUN_TIMEOUT if held.is_running else TryStatus.LOAD_TIMEOUT
            if life.concurrency > 1 and not held.is_cancelled:
                held.is_cancelled = True
                life.process.send({"cancel": index, "error": self._overdue(status)})
            else:
                life.killed_for = (index, status)
                life.process.kill()
                return

    def _check_memory(self, life: _Life, now: float) -> None:
        limit = self._policy.most_memory_bytes
        if limit is None or now - life.memory_checked < _MEMORY_CHECK_S:
            return
        life.memory_checked = now
        used = used_bytes(life.pid)
        if used > limit:
            self._replace(life, f"it uses {used // _MIB} MiB, more than {limit // _MIB} MiB (max_memory_per_process)")
            if not life.held:
                self._let_go(life)

    # How it ends

    def _replace(self, life: _Life, reason: str) -> None:
        """Hand the process nothing more, so that another one takes its place."""
        if not life.replaced_because:
            life.replaced_because = reason
            self._starter.say(f"{life.name} is replaced: {reason}")
            self.recall()

    def _kill_leaving(self, life: _Life, reason: str) -> None:
        self._starter.say(f"{life.name}: {reason}; killed")
        life.ending_since = math.inf
        life.process.kill()

    def _let_go(self, life: _Life) -> None:
        if not life.is_leaving:
            life.is_leaving, life.leaving_since = True, time.monotonic()
            life.process.send({"close": True})

    def _report_end(self, life: _Life) -> None:
        # If the node stops the process, no mini-batch is charged.
        begun = [held for held in life.held.values() if (held.since or held.loads_since) and not self._is_over]
        overdue, status = life.killed_for or (None, TryStatus.PROCESS_DIED)
        death = f"the worker process died during this mini-batch: {life.process.death}"
        error = death if overdue is None else self._overdue(status)
        self._dispatcher.take_end(
            [_end_of(held, life.name, status, error) for held in begun],
            [held.assignment for held in life.held.values() if held not in begun],
            overdue=overdue,
        )

    def _overdue(self, status: TryStatus) -> str:
        if status is TryStatus.RUN_TIMEOUT:
            return f"run() did not return within {self._policy.run_s:g} seconds (run_invocation_timeout)"
        return f"the mini-batch was not loaded within {self._policy.load_s:g} seconds (task_overhead_timeout)"


def _end_of(held: _Held, process: str, status: TryStatus, error: str) -> Failure:
    seconds = time.monotonic() - (held.since or held.loads_since)
    started = time.time() - seconds
    return Failure(
        assignment=held.assignment,
        status=status,
        error=error,
        process=process,
        started=started,
        duration_s=seconds,
    )
