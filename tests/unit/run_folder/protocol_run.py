"""A simulated run: Airflow, which starts, forgets and clears tasks, and everything that can go wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Manifest, Outcome, Ruling, Shard, Verdict
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.loans import BorrowedWork, Request
from airflow_prs.run_folder.names import RUN_LOG
from airflow_prs.run_folder.rows_files import RowsFiles
from airflow_prs.run_folder.run_log import Abort, AbortKind, RunLog, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_log import LOAN_RECORD, ShardState, loan_log, read_shard
from airflow_prs.run_folder.shard_records import Epoch, LoanRecord, Writer
from airflow_prs.store.memory import MemoryStore
from airflow_prs.thresholds.watch import Watch
from tests.unit.run_folder.protocol_actors import Gatekeeper, Node, Person, Start
from tests.unit.run_folder.protocol_checks import ShardChecks
from tests.unit.run_folder.protocol_world import FaultyStore, Process, Scheduler, apply

_FAIR_STEPS = 20_000
_RETRIES = 2
_MOST = {
    "kill": 4,
    "forget": 3,
    "twin": 2,
    "clear_one": 3,
    "clear_all": 2,
    "execute": 2,
    "abort": 2,
    "gatekeep": 3,
    "limit": 1,
}
"""How often an event may happen; others any number of times."""
_SHARD_KEY = re.compile(r"shards/(\d+)/(?:loans/(\d+)/)?log/\d+")


@dataclass(eq=False)
class Task:
    """A task of Airflow: the work of one shard."""

    shard: Shard
    try_number: int = 0
    process: Process | None = None
    state: str = ""
    cleared_at: int = 0
    max_tries: int = _RETRIES
    start: Start | None = None


@dataclass
class NoRows:
    """The rows files of a process that writes none."""

    path: Callable[[int], Path]

    def keep(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return the outcomes: there is nothing to keep."""
        return outcomes


@dataclass
class StoreFolder:
    """What a watch needs of a run folder."""

    store: Any

    def run_log(self) -> RunLog:
        """Return the run log."""
        return RunLog(self.store)

    def read_shards(self, known: Iterable[tuple[Shard, ShardState | None]]) -> Iterable[ShardState]:
        """Yield the states of some shards."""
        return (read_shard(self.store, shard, state) for shard, state in known)


class Run:
    """
    A run with all its processes.

    :param choose: returns a number below its argument; 0 is the most harmless.
    :param counts: mini-batches of each shard.
    :param poison: indices of mini-batches that kill their node.
    :param events: what may happen, the most harmless first; those that are to happen often more than once.
    :param calm: of 32 steps, how many happen without an event.
    :param limit: how many mini-batches may fail; -1: all.
    :param bad: how many tries there are for each that fails, about.
    :param is_faulty: whether requests to the store may fail.
    :param is_old: whether clear_number rises only if the run has ended, as in Airflow 3.1.
    """

    def __init__(
        self,
        choose: Callable[[int], int],
        *,
        counts: Sequence[int],
        poison: Iterable[int],
        events: Sequence[str],
        calm: int,
        limit: int,
        bad: int,
        is_faulty: bool,
        is_old: bool,
    ) -> None:
        self.scheduler = Scheduler(choose, is_faulty=is_faulty)
        self.choose, self.say, self.pause = self.scheduler.choose, self.scheduler.say, self.scheduler.pause
        self.store = MemoryStore()
        firsts = [sum(counts[:number]) for number in range(len(counts))]
        self.shards = [
            Shard(number=number, first=first, count=count, items=count, size_bytes=count)
            for number, (first, count) in enumerate(zip(firsts, counts, strict=True))
        ]
        self.checks = [ShardChecks(self.scheduler, self.store, shard) for shard in self.shards]
        self.execution, self.clear_number = 1, 0
        self._poison = frozenset(poison)
        self._events = list(events)
        self._calm = calm
        self._is_old = is_old
        self._limits = Limits(allowed_failed_count=limit)
        self._bad = bad
        self._gatekeeper_tries = 0
        self._tasks = [Task(shard) for shard in self.shards]
        self._rows = 0
        self._happened: Counter[str] = Counter()
        self._late: list[tuple[Process, str, bytes]] = []
        self._names: dict[str, int] = {}

    # The schedule

    def play(self, steps: int) -> None:
        """Let anything happen for some steps, then let all processes continue fairly until the end, and check it."""
        try:
            self._play(steps)
            self._finish()
            if any(task.state == "aborted" for task in self._tasks):
                limits = RunRecord(kind=RunRecordKind.LIMITS, author="person", limits=Limits())
                RunLog(self.store).append(lambda: limits)
                self._clear(self._tasks)
                self._finish()
            for task, check in zip(self._tasks, self.checks, strict=True):
                self.scheduler.check(task.state == "success", f"shard {task.shard.number} ends as {task.state}")
                self.scheduler.check(check.is_complete, f"shard {task.shard.number} is incomplete")
        except AssertionError as error:
            raise type(error)("\n".join([*self.scheduler.trace, str(error)])) from error
        finally:
            self.scheduler.close()

    def _play(self, steps: int) -> None:
        for task in self._tasks:
            self._start_try(task)
        current = self.scheduler.processes[0]
        for _ in range(steps):
            alive = self.scheduler.alive
            is_eventful = self.choose(32) > self._calm
            # Conflicts are between requests to create.
            if current.request[0] == "create" and not is_eventful:
                is_eventful = self.choose(8) == 7
            if is_eventful or not alive:
                event = self._pick_event()
                if event == "end" and not alive:
                    return
                if event == "end":
                    continue
                current = getattr(self, f"_{event}")(current) or current
            elif not current.is_alive or current.request[0] in {"wait", "work"}:
                current = self._after(current)
            if current.is_alive:
                self._resume(current)

    def _after(self, current: Process) -> Process:
        """Return the process after one that has nothing to do."""
        alive, number = self.scheduler.alive, self.scheduler.processes.index(current)
        later = (process for process in alive if self.scheduler.processes.index(process) > number)
        return next(later, alive[0])

    def _pick_event(self) -> str:
        event = self.scheduler.pick(self._events)
        self._happened[event] += 1
        if self._happened[event] == _MOST.get(event):
            self._events = [other for other in self._events if other != event]
        return event

    def _finish(self) -> None:
        for late in self._late[:: 1 + self.choose(2)]:
            self._apply_late(late)
        self._late.clear()
        self.scheduler.is_fair, self.scheduler.is_faulty = True, False
        self.say("from now on nothing fails")
        last = self.scheduler.steps + _FAIR_STEPS
        while alive := self.scheduler.alive:
            for process in alive:
                if process.is_alive:
                    self._resume(process)
            self.scheduler.check(self.scheduler.steps < last, "it never ends")

    def _resume(self, process: Process) -> None:
        self.scheduler.resume(process)
        if not process.is_alive:
            self._end(process)

    def _end(self, process: Process) -> None:
        for task in self._tasks:
            if task.process is process:
                if process.result is None:
                    self._check_superseded(task.shard, process)
                    self._start_try(task)
                else:
                    task.process, task.state = None, str(process.result)

    def _check_superseded(self, shard: Shard, process: Process) -> None:
        last = self.checks[shard.number].last
        is_other = last is not None and last.claim.writer.node != process.name
        is_superseded = isinstance(process.error, SupersededError)
        self.scheduler.check(is_other or not is_superseded, f"{process.name} stops though no other has claimed")

    def _start(self, name: str, run: Callable[[Process], object]) -> Process:
        number = self._names[name] = self._names.get(name, 0) + 1
        return self.scheduler.start(Process(name if number == 1 else f"{name} ({number})", run))

    def _start_try(self, task: Task) -> None:
        task.try_number += 1
        task.state = "running"
        task.process = self._start_process(task)

    def _start_process(self, task: Task, start: Start | None = None) -> Process:
        start = start or Start(
            execution=self.execution,
            clear_number=self.clear_number,
            try_number=task.try_number,
            max_tries=task.max_tries if self._is_old else None,
            cleared_at=task.cleared_at,
        )
        task.start = start
        name = (
            f"[shard {task.shard.number} execution {start.execution} clear {start.clear_number} try {start.try_number}]"
        )
        return self._start(name, Node(self, task.shard, start))

    # Events: each returns the process that continues, or None

    def _switch(self, current: Process) -> Process | None:
        others = [process for process in self.scheduler.alive if process is not current]
        return self.scheduler.pick(others) if others else None

    def _land(self, current: Process) -> None:
        if self._late:
            self._apply_late(self._late.pop(self.choose(len(self._late))))

    def _apply_late(self, late: tuple[Process, str, bytes]) -> None:
        process, key, data = late
        is_created = apply(self.store, key, data, process, self.on_change)
        self.say(f"late create {key} of {process.name}: {is_created}")

    def _kill(self, current: Process) -> None:
        if current.is_alive:
            self.scheduler.kill(current)
            self._end(current)

    def _forget(self, current: Process) -> Process | None:
        for task in self._tasks:
            if task.process is current:
                self.say(f"Airflow takes {current.name} for dead")
                self._start_try(task)
                return task.process
        return None

    def _twin(self, current: Process) -> Process | None:
        for task in self._tasks:
            if task.process is current:
                return self._start_process(task, task.start)
        return None

    def _clear_one(self, current: Process) -> None:
        self._clear([self.scheduler.pick(self._tasks)])

    def _clear_all(self, current: Process) -> None:
        self._clear(self._tasks)

    def _clear(self, tasks: Sequence[Task]) -> None:
        self.clear_number += not self._is_old or all(task.process is None for task in self._tasks)
        self.say(f"clear {[task.shard.number for task in tasks]}: clear_number {self.clear_number}")
        for task in tasks:
            if task.process is None:
                task.max_tries = task.try_number + _RETRIES
            if task.process is None or not self._is_old:
                # The old version does not show the clear of a running task.
                task.cleared_at = self.scheduler.steps
        self._restart(tasks)

    def _restart(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.process is not None and not self.choose(2):
                self.scheduler.kill(task.process)
            self._start_try(task)

    def _execute(self, current: Process) -> None:
        self.execution += 1
        self.clear_number = self.scheduler.pick([self.clear_number + 1, 0])
        self.say(f"plan runs again: execution {self.execution}, clear_number {self.clear_number}")
        for task in self._tasks:
            task.cleared_at = self.scheduler.steps
            task.try_number = self.scheduler.pick([task.try_number, 0])
            task.max_tries = task.try_number + _RETRIES
        self._restart(self._tasks)

    def _abort(self, current: Process) -> Process:
        reason = f"abort {len(self.scheduler.processes)}"

        def make() -> RunRecord | None:
            epoch = self._newest_epoch(person)
            if epoch is None:
                return None
            self.say(f"{person.name} aborts {tuple(epoch)}: {kind.value}")
            abort = Abort(verdict=Verdict(ruling=Ruling.ABORT, reason=reason), epoch=epoch, kind=kind)
            return RunRecord(kind=RunRecordKind.ABORT, author="person", abort=abort)

        kind = self.scheduler.pick([AbortKind.CANCEL, AbortKind.DRAIN])
        person = self._start(f"[{reason}]", Person(self, make))
        return person

    def _gatekeep(self, current: Process) -> Process:
        self._gatekeeper_tries += 1
        start = Start(
            execution=self.execution,
            clear_number=self.clear_number,
            try_number=self._gatekeeper_tries,
            max_tries=0 if self._is_old else None,
        )
        return self._start(f"[gatekeeper try {start.try_number}]", Gatekeeper(self, start))

    def _limit(self, current: Process) -> Process:
        record = RunRecord(
            kind=RunRecordKind.LIMITS, author="person", limits=Limits(allowed_failed_count=self.choose(4))
        )
        return self._start("[limits]", Person(self, lambda: record))

    def _newest_epoch(self, process: Process) -> Epoch | None:
        store: Any = self.store_of(process)
        epochs = [state.epoch for state in (read_shard(store, shard) for shard in self.shards)]
        return max((epoch for epoch in epochs if epoch is not None), default=None)

    # What processes use

    def store_of(self, process: Process) -> FaultyStore:
        """Return the store as a process sees it."""
        return FaultyStore(self.scheduler, process, self.store, self.on_change, self._late)

    def rows_files(self, writer: Writer) -> RowsFiles:
        """Return the rows files of a process, which has none."""
        return NoRows(lambda process: Path(writer.id, str(process)))

    def others(self, shard: Shard) -> list[Shard]:
        """Return the other shards."""
        return [other for other in self.shards if other is not shard]

    def seems_alive(self, state: ShardState) -> bool:
        """Whether the claimant of a shard seems to be alive, as its status.json shows, lately at least."""
        alive = {process.name for process in self.scheduler.alive}
        return (state.claim is not None and state.claim.writer.node in alive) or self.choose(4) == 3

    def run_mini_batch(self, process: Process, index: int, writer: Writer) -> tuple[int, bool]:
        """Return where its rows are, and whether it has failed; it may also kill its node."""
        if index in self._poison:
            self.say(f"{process.name} dies of {index}")
            self.scheduler.kill(process)
            self.pause(process)
        has_failed = self.choose(self._bad) == self._bad - 1
        self.say(f"{process.name} runs {index}" + (", which fails" if has_failed else ""))
        return self.new_row(index, writer), has_failed

    def new_row(self, index: int, writer: Writer) -> int:
        """Return a number that names an outcome."""
        self._rows += 1
        self._check_of(index).note_run(self._rows, index, writer.id)
        return self._rows

    # What processes report

    def note_claim(self, process: Process, attempt: Attempt) -> None:
        """Check a claim."""
        suspects = attempt.inheritance.suspects
        self.say(f"{process.name} has claimed with record {attempt.number}; suspects {suspects}")
        self.checks[attempt.shard.number].note_claim(attempt)

    def note_hand_out(self, process: Process, unit: Attempt | BorrowedWork, index: int) -> None:
        """Check that a mini-batch may be handed out."""
        self.say(f"{process.name} hands out {index}")
        self._check_of(index).note_hand_out(unit, index)

    def note_commit(self, process: Process, unit: Attempt | BorrowedWork, outcomes: Sequence[Outcome]) -> None:
        """Check a commit that was acknowledged."""
        number = unit.number if isinstance(unit, Attempt) else 0
        self.checks[unit.shard.number].note_commit(unit, number, outcomes)

    def note_withdrawal(self, shard: Shard, request: Request, answer: LoanRecord) -> None:
        """Check that nothing was lent of what a borrower has withdrawn."""
        first = loan_log(self.store, shard, request._number).read(0)
        is_open = first is not None and LOAN_RECORD.validate_json(first.header).is_open
        self.scheduler.check(answer.is_open == is_open, "a borrower does not know of its loan")

    def look(self, watch: Watch) -> Abort | None:
        """Let a watch judge the run, and check that it aborts what it has to."""
        before, limit = self._failures(), self._newest_limit()
        # What it does not see at the beginning may be in no other request.
        is_hidden = self.scheduler.is_faulty
        abort = watch.look().abort
        if self._failures().keys() == before.keys() and self._newest_limit() == limit >= 0:
            for epoch in {epoch for _, epoch in before}:
                failed = sum(count for (_, other), count in before.items() if other >= epoch)
                is_aborted = any(x.abort is not None and x.abort.epoch >= epoch for x in self._run_log().records)
                self.scheduler.check(
                    is_hidden or is_aborted or failed <= limit, f"{failed} failures in {epoch} abort nothing"
                )
        return abort

    def _failures(self) -> dict[tuple[str, Epoch], int]:
        claimed = [check for check in self.checks if check.last is not None]
        return {(check.last.claim.writer.id, check.last.claim.epoch): check.failed for check in claimed}

    def _newest_limit(self) -> int:
        limits = self._run_log().limits or self._limits
        return -1 if limits.allowed_failed_count is None else limits.allowed_failed_count

    def _run_log(self) -> RunLog:
        log = RunLog(self.store)
        log.follow()
        return log

    def note_look(self, start: Start, watch: Watch, abort: Abort | None) -> None:
        """Check what a node or a gatekeeper has found in the run log."""
        records, epoch = watch._run_log.records, watch.epoch
        binding = [record.abort for record in records if record.abort is not None and record.abort.epoch >= epoch]
        self.scheduler.check((abort is None) == (not binding), f"{abort} binds {epoch}, not {binding}")
        is_drain = all(each.is_drain for each in binding)
        self.scheduler.check(abort is None or abort.is_drain == is_drain, f"{abort} of {binding} binds {epoch}")
        self.scheduler.check(epoch >= (start.execution, start.clear_number), f"{start} works in {epoch}")
        if abort is not None:
            record = next(record for record in records if record.abort == abort)
            decided = next(step for data, step in self.scheduler.issued if record.id.encode() in data)
            self.scheduler.check(
                decided >= start.cleared_at, f"an old abort binds an attempt that was cleared: {abort}"
            )

    def note_appended(self, record: RunRecord | None) -> None:
        """Check that a record is in the run log."""
        self.scheduler.check(record is None or record in self._run_log().records, f"{record} is not in the run log")

    def on_change(self, key: str, process: Process) -> None:
        """Check what has changed in the store."""
        if (found := _SHARD_KEY.fullmatch(key)) is None:
            if key.startswith(RUN_LOG):
                self._check_abort()
            return
        check = self.checks[int(found[1])]
        if found[2] is None:
            check.look_at_log()
        else:
            check.look_at_loan(int(found[2]))

    def _check_abort(self) -> None:
        log = self._run_log()
        record = log.records[-1]
        if record.abort is not None and record.author != "person":
            failed = sum(check.most_failed(record.abort.epoch) for check in self.checks)
            verdict = record.abort.verdict
            is_justified = verdict.limit < verdict.count <= failed
            before = [other.abort.epoch for other in log.records[:-1] if other.abort is not None]
            self.scheduler.check(
                all(record.abort.epoch > epoch for epoch in before), f"{record.abort} after those of {before}"
            )
            self.scheduler.check(is_justified, f"{verdict} though only {failed} have failed since {record.abort.epoch}")

    def watch(self, process: Process, epoch: Epoch) -> Watch:
        """Return the watch of a node or a gatekeeper."""
        folder: Any = StoreFolder(self.store_of(process))
        manifest = Manifest(mini_batches=0, items=0, size_bytes=0, shards=tuple(self.shards))
        return Watch(folder, manifest, self._limits, author=process.name, epoch=epoch)

    def _check_of(self, index: int) -> ShardChecks:
        shard = next(shard for shard in self.shards if shard.first <= index < shard.end)
        return self.checks[shard.number]
