"""
One place for a worker process: started, fed, watched by the clock, replaced.

Where mini-batches are short a process gets several ahead, enough for some milliseconds, takes them one by one and
answers each at once; the answers are heard several at a time. An asynchronous entry script works on several at once.
The clock runs for those that it works on. If it dies, only what it worked on can be to blame: one mini-batch is
charged; of several, each is tried alone to find out.
"""

from __future__ import annotations

import itertools
import math
import socket
import time
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_prs.node.machine.memory import used_bytes
from airflow_prs.node.processes.process import Message, WorkerProcess
from airflow_prs.node.processes.protocols import Desk, Failure, Home, Rules, StartFailure, order_of, outcome_of
from airflow_prs.node.work.queue import Hand
from airflow_prs.records import Status
from airflow_prs.worker.channel import Done

_AHEAD_S = 0.04
_MOST_AHEAD = 512
_SHORTEST_REST_S, _LONGEST_REST_S = 0.001, 0.005
_MOST_FAILED_TRIES = 10
_SMOOTHING = 0.2
_CANCEL_S = 5.0
_MEMORY_CHECK_S = 1.0
_EXIT_GRACE_S = 5.0
"""More than exit_timeout_s, so that the process can end itself and report what held it up."""


@dataclass(slots=True)
class _Held:
    """A mini-batch in the hands of a process, and since when it works on it; 0: not yet."""

    hand: Hand
    since: float = 0.0
    is_running: bool = False
    is_cancelled: bool = False


@dataclass(slots=True)
class _Life:
    """The state of one worker process."""

    process: WorkerProcess
    began: float
    pid: int = 0
    is_ready: bool = False
    concurrency: int = 1
    is_leaving: bool = False
    leaving_since: float = 0.0
    has_shutdown: bool = False
    ending_since: float = 0.0
    replaced_because: str = ""
    answers: int = 0
    failed_tries: int = 0
    checked: float = 0.0
    memory_checked: float = 0.0
    killed_for: tuple[int, Status] | None = None
    held: dict[int, _Held] = field(default_factory=dict)
    start_failure: StartFailure | None = None

    def forgive(self, seconds: float, now: float) -> None:
        """Leave a time that has just passed out of all that is measured against a limit."""
        self.began = min(now, self.began + seconds)
        self.leaving_since = min(now, self.leaving_since + seconds)
        if 0 < self.ending_since < math.inf:
            self.ending_since = min(now, self.ending_since + seconds)
        for held in self.held.values():
            if held.since:
                held.since = min(now, held.since + seconds)


class Slot:
    """
    Keeps one worker process at work.

    :param number: which of the node's slots it is.
    """

    def __init__(self, number: int, desk: Desk, home: Home, rules: Rules) -> None:
        self.number = number
        self._desk = desk
        self._home = home
        self._rules = rules
        self._life: _Life | None = None
        self.was_ready = False
        self._is_over = False
        self._seconds_each = 0.0

    @property
    def process(self) -> tuple[str, int] | None:
        """Name and process id of a worker process that is ready."""
        life = self._life
        return (life.process.plan.name, life.pid) if life is not None and life.is_ready else None

    @property
    def is_busy(self) -> bool:
        """Whether its process has something in hand."""
        return self._life is not None and bool(self._life.held)

    async def live(self) -> None:
        """Run one worker process from its start to its end."""
        early: list[Message] = []
        process = await self._home.start(self.number, lambda messages: self._hear(messages, early))
        self._life = _Life(process=process, began=time.monotonic())
        if self._is_over:
            process.kill()
        self._hear(early, [])
        await process.wait()
        life, self._life = self._life, None
        self._settle(life)

    def feed(self) -> None:
        """Hand out as much as the process should hold."""
        life = self._life
        if life is None or not life.is_ready or life.is_leaving or life.replaced_because:
            return
        if not life.held:
            self._desk = self._home.desk_for(self.number, self._desk)
        depth = self._depth(life)
        orders = []
        while len(life.held) < depth:
            hand = self._desk.next_hand(slot=self.number, may_be_alone=not life.held)
            if hand is None:
                break
            life.held[hand.mini_batch.index] = _Held(hand)
            orders.append(order_of(hand, has_tables=self._rules.has_tables))
            if hand.is_alone:
                break
        if orders:
            self._begin(life)
            life.process.send({"run": orders})

    def leave(self) -> None:
        """Let a process that has nothing in hand end in the normal way; one that is not ready is killed."""
        self._is_over = True
        if self._life is None:
            return
        if self._life.is_ready:
            self._let_go(self._life)
        else:
            self._life.process.kill()

    def kill(self) -> None:
        """Kill the process with everything that it has started, one that is about to start too."""
        self._is_over = True
        if self._life is not None:
            self._life.process.kill()

    def check(self, late_s: float = 0.0) -> None:
        """
        Kill the process if its time is over; see that one that has grown too big is replaced.

        :param late_s: seconds in which this node heard nothing, so that the process may have waited for it.
        """
        life, now = self._life, time.monotonic()
        if life is None or life.killed_for is not None:
            return
        checked, life.checked = life.checked or now, now
        life.forgive(max(late_s, now - checked) if life.process.is_held_up else late_s, now)
        if life.ending_since:
            limit_s = self._rules.exit_s + _EXIT_GRACE_S
            if now - life.ending_since > limit_s:
                reason = f"it had not ended {limit_s:g} seconds after its work was done (exit_timeout_s)"
                self._kill_leaving(life, reason)
        elif not life.is_ready:
            if now - life.began > self._rules.init_s and life.start_failure is None:
                error = f"init() did not finish within {self._rules.init_s:g} seconds"
                life.start_failure = StartFailure(stage="timeout", error=error)
                life.process.kill()
        elif life.is_leaving:
            if now - life.leaving_since > self._rules.shutdown_s:
                what = "shutdown()" if life.has_shutdown else "the event loop of the script"
                self._kill_leaving(life, f"{what} did not come to an end within {self._rules.shutdown_s:g} seconds")
        else:
            self._check_tries(life, now)
            self._check_memory(life, now)

    # What the process is given

    def _depth(self, life: _Life) -> int:
        """How many mini-batches the process should hold."""
        if any(held.hand.is_alone for held in life.held.values()):
            return 0
        depth, share = life.concurrency, self._desk.fair_share()
        if depth == 1:
            ahead = int(_AHEAD_S / max(self._seconds_each, 1e-6)) if self._seconds_each else 0
            depth, share = 1 + min(_MOST_AHEAD, ahead), share // 2
        depth = max(1, min(depth, share))
        if self._rules.most_mini_batches is not None:
            depth = min(depth, self._rules.most_mini_batches - life.answers)
        return depth

    def _begin(self, life: _Life) -> None:
        """Start the clock of what the process works on."""
        now = time.monotonic()
        for held in itertools.islice(life.held.values(), life.concurrency):
            if not held.since:
                held.since, held.is_running = now, not self._rules.has_tables

    # What it answers

    def _hear(self, messages: list[Message], early: list[Message]) -> None:
        life = self._life
        if life is None:
            early += messages
            return
        for message in messages:
            if isinstance(message, Done):
                hand = self._pop(life, message.minibatch_index, message.duration_s)
                self._desk.take_outcome(outcome_of(hand, message, process=life.process.plan.number))
            else:
                self._hear_other(life, message)
        self._begin(life)
        self._after_answers(life)

    def _hear_other(self, life: _Life, message: dict[str, Any]) -> None:
        if (index := message.get("running")) is not None:
            if index in life.held:
                life.held[index].since, life.held[index].is_running = time.monotonic(), True
        elif (failed := message.get("try_failed")) is not None:
            self._hear_failed(life, failed)
        elif (ready := message.get("ready")) is not None:
            # A script whose run() is not asynchronous works on one at a time whatever the configuration allows.
            life.is_ready, life.pid, life.concurrency = True, ready["pid"], ready["concurrency"]
            life.has_shutdown = ready["has_shutdown"]
            self.was_ready = True
        elif (failed := message.get("failed")) is not None:
            life.start_failure, life.ending_since = StartFailure(**failed), time.monotonic()
        elif "leaving" in message:
            life.ending_since = time.monotonic()
        elif (note := message.get("note")) is not None:
            self._home.say(f"{life.process.plan.name}: {note}")
        elif (lines := message.get("log")) is not None:
            life.process.log_for_script(lines)

    def _hear_failed(self, life: _Life, failed: dict[str, Any]) -> None:
        hand = self._pop(life, failed["index"], failed["duration_s"])
        retry = failed.get("retry") or {}
        life.failed_tries += 1
        self._desk.take_failure(
            Failure(
                hand=hand,
                status=Status[failed["status"]],
                error=failed["error"],
                traceback=failed["traceback"],
                process=life.process.plan.name,
                started=failed["started"],
                duration_s=failed["duration_s"],
                run_s=failed["run_s"],
                cpu_s=failed["cpu_s"],
                is_hopeless=retry.get("never", False),
                wait_s=retry.get("after_s", 0.0),
            )
        )

    def _pop(self, life: _Life, index: int, duration_s: float) -> Hand:
        life.answers += 1
        before = self._seconds_each or duration_s
        self._seconds_each = before + _SMOOTHING * (duration_s - before)
        return life.held.pop(index).hand

    def _after_answers(self, life: _Life) -> None:
        most = self._rules.most_mini_batches
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
        """Hear nothing while the process has enough to do."""
        rest_s = min(len(life.held) * self._seconds_each / 2, _LONGEST_REST_S)
        if life.concurrency == 1 and rest_s >= _SHORTEST_REST_S and not self._rules.has_tables:
            life.process.rest(rest_s)

    # How it ends

    def _replace(self, life: _Life, reason: str) -> None:
        """Give the process nothing more, so that another one takes its place."""
        if not life.replaced_because:
            life.replaced_because = reason
            self._home.say(f"{life.process.plan.name} is replaced: {reason}")

    def _kill_leaving(self, life: _Life, reason: str) -> None:
        self._home.say(f"{life.process.plan.name}: {reason}; killed")
        life.ending_since = math.inf
        life.process.kill()

    def _let_go(self, life: _Life) -> None:
        if not life.is_leaving:
            life.is_leaving, life.leaving_since = True, time.monotonic()
            life.process.send({"close": True})

    def _check_tries(self, life: _Life, now: float) -> None:
        for index, held in life.held.items():
            limit_s = self._rules.run_s if held.is_running else self._rules.load_s
            if held.is_cancelled:
                limit_s += _CANCEL_S
            if not held.since or now - held.since <= limit_s:
                continue
            status = Status.RUN_TIMEOUT if held.is_running else Status.LOAD_TIMEOUT
            if life.concurrency > 1 and not held.is_cancelled:
                held.is_cancelled = True
                life.process.send({"cancel": index, "error": self._overdue(status)})
            else:
                life.killed_for = (index, status)
                life.process.kill()
                return

    def _check_memory(self, life: _Life, now: float) -> None:
        limit = self._rules.most_memory_bytes
        if limit is None or now - life.memory_checked < _MEMORY_CHECK_S:
            return
        life.memory_checked = now
        used = used_bytes(life.pid)
        if used > limit:
            mib = 1024 * 1024
            self._replace(life, f"it uses {used // mib} MiB, more than {limit // mib} MiB (max_memory_per_process)")
            if not life.held:
                self._let_go(life)

    def _settle(self, life: _Life) -> None:
        """Charge what the process died on; give back the rest."""
        if not life.is_ready:
            self._home.take_start_failure(life.start_failure or _why_not_ready(life.process))
        guilty, suspects, innocent = self._sort_out(life)
        self._desk.give_back([*(replace(held.hand, is_alone=True) for held in suspects), *(h.hand for h in innocent)])
        for held in guilty:
            self._desk.take_failure(self._death_of(life, held))

    def _sort_out(self, life: _Life) -> tuple[list[_Held], list[_Held], list[_Held]]:
        begun = [held for held in life.held.values() if held.since]
        waiting = [held for held in life.held.values() if not held.since]
        if self._is_over:
            return [], [], begun + waiting
        if life.killed_for is not None:
            guilty = [held for held in begun if held.hand.mini_batch.index == life.killed_for[0]]
            return guilty, [], [held for held in begun if held not in guilty] + waiting
        if len(begun) == 1:
            return begun, [], waiting
        return [], begun, waiting

    def _death_of(self, life: _Life, held: _Held) -> Failure:
        status = life.killed_for[1] if life.killed_for is not None else Status.PROCESS_DIED
        duration_s = time.monotonic() - held.since
        is_overdue = status is not Status.PROCESS_DIED
        return Failure(
            hand=held.hand,
            status=status,
            error=self._overdue(status)
            if is_overdue
            else f"the worker process died during this mini-batch: {life.process.death}",
            process=life.process.plan.name,
            started=time.time() - duration_s,
            duration_s=duration_s,
        )

    def _overdue(self, status: Status) -> str:
        if status is Status.RUN_TIMEOUT:
            return f"run() did not return within {self._rules.run_s:g} seconds (run_invocation_timeout)"
        return f"the mini-batch was not loaded within {self._rules.load_s:g} seconds (task_overhead_timeout)"


def _why_not_ready(process: WorkerProcess) -> StartFailure:
    if process.has_no_interpreter:
        allowed = "a Python that is at this path on every node"
        error = f"environment: on {socket.gethostname()}, {process.death}; allowed: {allowed}"
        return StartFailure(stage="environment", error=error)
    error = f"the worker process ended before init() was through: {process.death}"
    return StartFailure(stage="init", error=error)
