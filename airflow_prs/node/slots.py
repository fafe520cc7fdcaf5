"""
One place for a worker process: started, fed, watched by the clock, replaced.

A process gets several mini-batches ahead where they are short, and takes them one by one; the clock runs for the first
one in its hands. Only that one is charged if the process dies; the others go back to the queue.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_prs.node.process import WorkerProcess
from airflow_prs.node.queue import Hand
from airflow_prs.records import MiniBatch, Outcome, Status

_AHEAD_S = 0.01
_MOST_AHEAD = 32
_MOST_FAILED_TRIES = 10
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A try that failed.

    :param hand: what was tried.
    :param started: moment, seconds since the epoch (UTC).
    """

    hand: Hand
    status: Status
    error: str
    traceback: str = ""
    process: str
    started: float
    duration_s: float
    run_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """A worker process that never became ready: ``environment``, ``import``, ``init`` or ``timeout``."""

    stage: str
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Seconds: for a call of run(), for loading a mini-batch, for init(), for shutdown()."""

    run_s: float
    load_s: float
    init_s: float
    shutdown_s: float


class Desk(Protocol):
    """What a slot needs from its supervisor."""

    def next_hand(self, slot: Slot) -> Hand | None:
        """Take what the slot should do next; None: nothing now."""

    def take_outcome(self, outcome: Outcome) -> None:
        """Take the outcome of a mini-batch that succeeded."""

    def take_failure(self, failure: Failure) -> None:
        """Take a failed try."""

    def take_start_failure(self, failure: StartFailure) -> None:
        """Take a process that did not become ready."""

    def give_back(self, hands: list[Hand]) -> None:
        """Take back what was not begun."""

    def say(self, text: str) -> None:
        """Put a line into the task log."""

    def fair_share(self) -> int:
        """Say how many mini-batches a process may hold so that the others get theirs."""

    async def start(self, slot: Slot, on_message: Callable[[dict[str, Any]], None]) -> WorkerProcess:
        """Start a worker process for a slot."""


@dataclass(slots=True)
class _Life:
    """The state of one worker process."""

    process: WorkerProcess
    began: float
    is_ready: bool = False
    is_leaving: bool = False
    failed_tries: int = 0
    killed_for: Status | None = None
    held: deque[Hand] = field(default_factory=deque)
    head_since: float = 0.0
    is_head_running: bool = False
    start_failure: StartFailure | None = None


class Slot:
    """
    Keeps one worker process at work.

    :param number: which of the node's slots it is.
    :param has_tables: whether mini-batches are loaded before run() is called, which the process then tells.
    """

    def __init__(self, number: int, desk: Desk, limits: TimeLimits, *, has_tables: bool) -> None:
        self.number = number
        self._desk = desk
        self._limits = limits
        self._has_tables = has_tables
        self._life: _Life | None = None
        self._is_over = False
        self._seconds_each = 1.0

    @property
    def is_ready(self) -> bool:
        """Whether a process waits for work or works."""
        return self._life is not None and self._life.is_ready and not self._life.is_leaving

    @property
    def held(self) -> int:
        """How many mini-batches its process has in hand."""
        return len(self._life.held) if self._life is not None else 0

    async def live(self) -> None:
        """Run one worker process from its start to its end."""
        early: list[dict[str, Any]] = []
        process = await self._desk.start(self, lambda message: self._hear(message, early))
        self._life = _Life(process=process, began=time.monotonic())
        if self._is_over:
            process.kill()
        for message in early:
            self._hear(message, early)
        await process.wait()
        life, self._life = self._life, None
        self._settle(life)

    def feed(self) -> None:
        """Hand out as much as the process should hold."""
        life = self._life
        if life is None or not life.is_ready or life.is_leaving:
            return
        depth = max(1, min(_MOST_AHEAD, int(_AHEAD_S / self._seconds_each), self._desk.fair_share()))
        messages = []
        while len(life.held) < depth and (hand := self._desk.next_hand(self)) is not None:
            if not life.held:
                self._begin_head(life, time.monotonic())
            life.held.append(hand)
            messages.append({"run": self._described(hand.mini_batch, hand.try_number)})
        if messages:
            life.process.send(*messages)

    def leave(self) -> None:
        """Let a process that has nothing in hand end in the normal way; one that is not ready is killed."""
        self._is_over = True
        life = self._life
        if life is None or life.is_leaving:
            return
        if not life.is_ready:
            life.process.kill()
            return
        life.is_leaving = True
        life.head_since = time.monotonic()
        life.process.send({"close": True})

    def kill(self) -> None:
        """Kill the process with everything that it has started, one that is about to start too."""
        self._is_over = True
        if self._life is not None:
            self._life.process.kill()

    def check_clock(self) -> None:
        """Kill the process if its time is over."""
        life = self._life
        if life is None or life.killed_for is not None:
            return
        now = time.monotonic()
        if not life.is_ready:
            if now - life.began > self._limits.init_s:
                error = f"init() did not finish within {self._limits.init_s:g} seconds"
                life.start_failure = StartFailure(stage="timeout", error=error)
                self._kill_for(life, Status.RUN_TIMEOUT)
        elif life.is_leaving:
            if now - life.head_since > self._limits.shutdown_s:
                self._desk.say(f"{life.process.plan.name}: shutdown() took over {self._limits.shutdown_s:g} s; killed")
                self._kill_for(life, Status.RUN_TIMEOUT)
        elif life.held:
            limit_s = self._limits.run_s if life.is_head_running else self._limits.load_s
            if now - life.head_since > limit_s:
                self._kill_for(life, Status.RUN_TIMEOUT if life.is_head_running else Status.LOAD_TIMEOUT)

    def _kill_for(self, life: _Life, status: Status) -> None:
        life.killed_for = status
        life.process.kill()

    def _hear(self, message: dict[str, Any], early: list[dict[str, Any]]) -> None:
        life = self._life
        if life is None:
            early.append(message)
        elif (done := message.get("done")) is not None:
            self._hear_done(life, done)
        elif (index := message.get("running")) is not None:
            if life.held and life.held[0].mini_batch.index == index:
                life.head_since, life.is_head_running = time.monotonic(), True
        elif (failed := message.get("try_failed")) is not None:
            self._hear_failed(life, failed)
        elif "ready" in message:
            life.is_ready = True
            self.feed()
        elif (failed := message.get("failed")) is not None:
            life.start_failure = StartFailure(**failed)
        elif (note := message.get("note")) is not None:
            self._desk.say(f"{life.process.plan.name}: {note}")

    def _hear_done(self, life: _Life, done: list[Any]) -> None:
        index, returned, offset, length, crc, started, run_s, cpu_s = done
        hand, duration_s = self._pop_head(life, index)
        items = hand.mini_batch.items
        self._desk.take_outcome(
            Outcome(
                index=index,
                status=Status.RUN_DONE,
                tries=hand.try_number,
                items=items,
                succeeded=min(items, returned),
                returned=returned,
                process=life.process.plan.number,
                offset=offset,
                length=length,
                crc=crc,
                started=started,
                duration_s=duration_s,
                run_s=run_s,
                cpu_s=cpu_s,
            )
        )
        self.feed()

    def _hear_failed(self, life: _Life, failed: dict[str, Any]) -> None:
        hand, duration_s = self._pop_head(life, failed.pop("index"))
        status = Status[failed.pop("status")]
        name = life.process.plan.name
        self._desk.take_failure(Failure(hand=hand, status=status, process=name, duration_s=duration_s, **failed))
        life.failed_tries += 1
        if life.failed_tries > _MOST_FAILED_TRIES and not life.is_leaving:
            self._desk.say(f"{name}: more than {_MOST_FAILED_TRIES} tries failed in this process; it is replaced")
            # The next one may have begun, but nothing has come of it.
            self._desk.give_back(list(life.held))
            life.held.clear()
            life.is_leaving = True
            life.process.kill()
        self.feed()

    def _pop_head(self, life: _Life, index: int) -> tuple[Hand, float]:
        hand = life.held.popleft()
        if hand.mini_batch.index != index:
            raise RuntimeError(f"{life.process.plan.name} answered for {index}, not for {hand.mini_batch.index}")
        now = time.monotonic()
        duration_s = now - life.head_since
        self._seconds_each += _SMOOTHING * (duration_s - self._seconds_each)
        if life.held:
            self._begin_head(life, now)
        return hand, duration_s

    def _begin_head(self, life: _Life, now: float) -> None:
        life.head_since = now
        life.is_head_running = not self._has_tables

    def _settle(self, life: _Life) -> None:
        """Charge what the process died on, give back the rest."""
        if not life.is_ready:
            error = f"the worker process {life.process.death} before init() was through"
            self._desk.take_start_failure(life.start_failure or StartFailure(stage="init", error=error))
        # What the node itself killed on its way out has not failed.
        is_charged = life.held and not (self._is_over and life.killed_for is None)
        head = life.held.popleft() if is_charged else None
        self._desk.give_back(list(life.held))
        if head is not None:
            status = life.killed_for or Status.PROCESS_DIED
            duration_s = time.monotonic() - life.head_since
            self._desk.take_failure(
                Failure(
                    hand=head,
                    status=status,
                    error=self._death(status, life.process.death),
                    process=life.process.plan.name,
                    started=time.time() - duration_s,
                    duration_s=duration_s,
                )
            )

    def _death(self, status: Status, death: str) -> str:
        if status is Status.RUN_TIMEOUT:
            return f"run() did not return within {self._limits.run_s:g} seconds (run_invocation_timeout); killed"
        if status is Status.LOAD_TIMEOUT:
            return f"the mini-batch was not loaded within {self._limits.load_s:g} seconds; killed"
        return f"the worker process died during this mini-batch: {death}"

    def _described(self, mini_batch: MiniBatch, try_number: int) -> list[Any]:
        partition = None if mini_batch.partition is None else dict(mini_batch.partition)
        if self._has_tables:
            pieces: list[Any] = [[p.path, p.begin, p.end, p.row_group] for p in mini_batch.pieces]
        else:
            pieces = [piece.path for piece in mini_batch.pieces]
        return [mini_batch.index, try_number, mini_batch.input, mini_batch.items, partition, pieces]
