"""A simulated run as plan and merge see it: executions, folders, shards whose logs grow, and merges that publish."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from airflow_prs.errors import SupersededError
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.merges import Merge
from airflow_prs.run_folder.task_log import (
    Execution,
    History,
    MergeClaim,
    PlanClaim,
    Published,
    Publishing,
    TaskLog,
)
from airflow_prs.store.memory import MemoryStore
from tests.unit.run_folder.protocol_world import FaultyStore, Process, Scheduler, apply

_SHARDS = range(2)
_RESULT = "result"
_LOG = "log/"
_FAIR_STEPS = 5_000
_MOST = {"plan": 4, "merge": 6, "twin": 2, "commit": 8, "kill": 4}


class Publication:
    """
    The plans and merges of a run.

    :param choose: returns a number below its argument; 0 is the most harmless.
    :param events: what may happen, the most harmless first.
    :param is_faulty: whether requests to the store may fail.
    """

    def __init__(self, choose: Callable[[int], int], *, events: Sequence[str], calm: int, is_faulty: bool) -> None:
        self.scheduler = Scheduler(choose, is_faulty=is_faulty)
        self.store = MemoryStore()
        self._events = list(events)
        self._calm = calm
        self._happened: Counter[str] = Counter()
        self._late: list[tuple[Process, str, bytes]] = []
        self._tries: Counter[int] = Counter()
        self._published: list[tuple[int, str, dict[int, int]]] = []
        self._appeared: dict[int, int] = {}
        self._folders = 0

    def play(self, steps: int) -> None:
        """Let anything happen for some steps; then let a last merge publish, and check its result."""
        try:
            self._play(steps)
            self.scheduler.is_fair, self.scheduler.is_faulty = True, False
            self._finish()
            if not self._history.newest_execution():
                self._plan(None)
                self._finish()
            self._merge(None)
            self._finish()
            execution = self._history.execution(self._history.newest_execution() or 0)
            found = (self._visible() or ())[:2]
            wanted = (execution.folder, self._positions(execution.folder))
            self.scheduler.check(found == wanted, f"the result is of {found}, not of {wanted}")
        except AssertionError as error:
            raise type(error)("\n".join([*self.scheduler.trace, str(error)])) from error
        finally:
            self.scheduler.close()

    def _play(self, steps: int) -> None:
        current = self._plan(None)
        for _ in range(steps):
            is_eventful = self.scheduler.choose(32) > self._calm or not self.scheduler.alive
            if current.request[0] in {"create", "publish"} and not is_eventful:
                is_eventful = self.scheduler.choose(6) == 5
            if is_eventful:
                current = getattr(self, f"_{self._pick_event()}")(current) or current
            elif not current.is_alive:
                current = self.scheduler.alive[0]
            if current.is_alive:
                self.scheduler.resume(current)

    def _finish(self) -> None:
        last = self.scheduler.steps + _FAIR_STEPS
        while alive := self.scheduler.alive:
            for process in alive:
                self.scheduler.resume(process)
            self.scheduler.check(self.scheduler.steps < last, "it never ends")

    def _pick_event(self) -> str:
        event = self.scheduler.pick(self._events)
        self._happened[event] += 1
        if self._happened[event] == _MOST.get(event):
            self._events = [other for other in self._events if other != event]
        return event

    # Events: each returns the process that continues, or None

    def _switch(self, current: Process) -> Process | None:
        others = [process for process in self.scheduler.alive if process is not current]
        return self.scheduler.pick(others) if others else None

    def _kill(self, current: Process) -> None:
        self.scheduler.kill(current)

    def _land(self, current: Process) -> None:
        if self._late:
            process, key, data = self._late.pop(self.scheduler.choose(len(self._late)))
            is_created = apply(self.store, key, data, process, self._on_change)
            self.scheduler.say(f"late create {key} of {process.name}: {is_created}")

    def _commit(self, current: Process) -> None:
        folder = self.scheduler.pick(self._used_folders() or [""])
        number = self.scheduler.pick(_SHARDS)
        if folder:
            log = self._shard_log(folder, number)
            last = log.read_last()
            log.append(0 if last is None else last.number + 1, b"{}")
            self.scheduler.say(f"shard {number} of {folder} commits")

    def _plan(self, current: Process | None) -> Process:
        choice = self.scheduler.choose(3)
        used = self._used_folders()
        if choice and used:
            folder = used[-1] if choice == 1 else self.scheduler.pick(used)
        else:
            self._folders += 1
            folder = f"folder {self._folders}"

        def run(process: Process) -> str:
            log = TaskLog(self._store_of(process), _LOG)
            claim = log.claim_plan()
            self.scheduler.pause(process, "work")
            log.append_execution(claim, folder=folder, terms={})
            return "success"

        return self.scheduler.start(Process(f"[plan {len(self.scheduler.processes)} of {folder}]", run))

    def _merge(self, current: Process | None, *, is_twin: bool = False) -> Process | None:
        executions = [number for number, record in enumerate(self._history) if isinstance(record, Execution)]
        if not executions:
            return None
        number = self.scheduler.pick(executions[::-1])
        self._tries[number] += not is_twin or not self._tries[number]
        execution, try_number = self._history.execution(number), self._tries[number]

        def run(process: Process) -> str:
            store = self._store_of(process)
            merge = Merge(
                TaskLog(store, _LOG),
                store,
                folder=execution.folder,
                execution=number,
                try_number=try_number,
                key=_RESULT,
            )

            def probe() -> dict[int, int]:
                self.scheduler.pause(process, "probe")
                return self._positions(execution.folder)

            def attempt() -> str:
                positions = probe()
                merge.check()
                content = json.dumps([execution.folder, positions, merge.number]).encode()
                merge.publish(lambda out: out.write(content), positions=positions, probe=probe)
                merge.note_published(positions=positions, result=_RESULT, status="", reports="")
                return "success"

            try:
                merge.run(attempt)
            except SupersededError:
                self._look_at_end(merge, execution.folder)
                raise
            is_published = any(claim == merge.number for claim, _, _ in self._published)
            self.scheduler.check(is_published, f"{process.name} ends and has published nothing")
            return "success"

        return self.scheduler.start(
            Process(f"[merge {len(self.scheduler.processes)} of {number} try {try_number}]", run)
        )

    def _twin(self, current: Process) -> Process | None:
        return self._merge(current, is_twin=True)

    # What is checked

    def _on_change(self, key: str, process: Process) -> None:
        history = self._history
        if key == _RESULT:
            self.scheduler.say(f"the result is of {self._visible()}")
            self._appeared = self._positions((self._visible() or ("",))[0])
        elif isinstance(record := history[-1], MergeClaim):
            self._look_at_claim(history, record)
            return
        elif isinstance(record, Execution):
            claimant = [other.process for other in history if isinstance(other, PlanClaim)][-1]
            self.scheduler.check(record.process == claimant, "a superseded plan appends an execution")
            return
        elif isinstance(record, Published):
            self._published.append((record.claim, history.claim(record.claim).folder, dict(record.positions)))
        else:
            return
        visible = self._visible()
        if visible is None:
            raise AssertionError("it was published")
        folder, positions, claim = visible
        if key != _RESULT:
            self.scheduler.check(
                self._published[-1][::2] == (claim, positions), "another result than the visible one is noted"
            )
            self.scheduler.check(
                positions == self._appeared, f"noted up to {positions}, when there was {self._appeared}"
            )
        numbers = [
            number for number, record in enumerate(history) if isinstance(record, Publishing) and record.claim == claim
        ]
        self.scheduler.check(numbers, "a result appears that no record announces")
        newest = History(history[: numbers[-1]]).newest_execution()
        self.scheduler.check(history.execution(newest).folder == folder, f"{folder} is older than that of {newest}")
        for number, other, found in self._published:
            self.scheduler.check(claim >= number, f"the result of claim {claim} replaces that of {number}")
            is_older = other == folder and any(positions[shard] < position for shard, position in found.items())
            self.scheduler.check(not is_older, f"the result goes up to {positions}, one before it up to {found}")

    def _look_at_end(self, merge: Merge, folder: str) -> None:
        history = self._history
        later = history[merge.number + 1 :]
        is_replaced = any(isinstance(record, Execution) and record.folder != folder for record in later)
        is_newest = history.newest_claim() == merge.number
        self.scheduler.check(is_replaced or not is_newest, "a merge stops though nobody has replaced it")

    def _look_at_claim(self, history: History, claim: MergeClaim) -> None:
        newest = history.execution(history.newest_execution() or 0).folder
        self.scheduler.check(claim.folder == newest, f"a merge of {claim.folder} claims when there is {newest}")
        earlier = [(other.execution, other.try_number) for other in history[:-1] if isinstance(other, MergeClaim)]
        is_newest = not earlier or earlier[-1] <= (claim.execution, claim.try_number)
        self.scheduler.check(is_newest, f"{claim} is older than one of {earlier}")

    def _visible(self) -> tuple[str, dict[int, int], int] | None:
        data = self.store.get(_RESULT)
        if data is None:
            return None
        folder, positions, claim = json.loads(data)
        return folder, {int(number): position for number, position in positions.items()}, claim

    @property
    def _history(self) -> Any:
        return TaskLog(self.store, _LOG).read()

    def _used_folders(self) -> list[str]:
        return list(dict.fromkeys(record.folder for record in self._history if isinstance(record, Execution)))

    def _positions(self, folder: str) -> dict[int, int]:
        found = {number: self._shard_log(folder, number).read_last() for number in _SHARDS}
        return {number: -1 if record is None else record.number for number, record in found.items()}

    def _shard_log(self, folder: str, number: int) -> Log:
        return Log(self.store, f"{folder}/{number}/")

    def _store_of(self, process: Process) -> Any:
        return FaultyStore(self.scheduler, process, self.store, self._on_change, self._late)
