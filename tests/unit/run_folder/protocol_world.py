"""
A world for the model test of the run folder's protocol: processes, a store with faults, and Airflow.

Processes are greenlets. Before each request to the store, and while it works, a process returns to the scheduler, which
decides what happens next. Every decision is a number from 0 up, and 0 is always the most harmless one: the same process
continues, nothing fails. So a failing schedule shrinks to one with few surprises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar

import greenlet

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.port import Stat

_T = TypeVar("_T")

FAULTS = [*[""] * 20, "lost", "late", "repeated"]
STALE_PROBES = 3
"""How often a process may be told that a key does not exist which it has looked for in vain before."""


class ViolationError(AssertionError):
    """The protocol breaks a promise."""


class LostAnswerError(OSError):
    """A request whose answer is lost."""


@dataclass(eq=False)
class Process:
    """
    A process of some node, gatekeeper, plan, merge or person.

    :param request: the operation on the store that it is about to do, and its key.
    :param absent: keys that it has looked for in vain: the number of times that it may still not see them.
    :param has_missed: whether it has not seen a key that exists.
    :param error: what ended it; None: it runs or has ended well.
    """

    name: str
    run: Callable[[Process], object]
    greenlet: greenlet.greenlet | None = None
    request: tuple[str, str] = ("", "")
    absent: dict[str, int] = field(default_factory=dict)
    has_missed: bool = False
    is_alive: bool = True
    error: BaseException | None = None
    result: object = None


class Scheduler:
    """
    Runs processes one step at a time.

    :param choose: returns a number below its argument.
    :param is_faulty: whether requests to the store may fail.
    """

    def __init__(self, choose: Callable[[int], int], *, is_faulty: bool) -> None:
        self._choose = choose
        self.is_faulty = is_faulty
        self.processes: list[Process] = []
        self.trace: list[str] = []
        self.steps = 0
        self.issued: list[tuple[bytes, int]] = []
        self.is_fair = False
        self._is_over = False
        self._main = greenlet.getcurrent()

    def choose(self, count: int) -> int:
        """Return a number below ``count``; 0 once the world is fair."""
        return 0 if self.is_fair or count < 2 else self._choose(count)

    def pick(self, options: Sequence[_T]) -> _T:
        """Return one of some options, the first of which is the most harmless."""
        return options[self.choose(len(options))]

    def say(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.steps:4} {text}")

    def check(self, condition: object, text: str) -> None:
        """Stop with the trace unless a condition holds."""
        if not condition:
            raise ViolationError(text)

    def start(self, process: Process) -> Process:
        """Start a process; it does nothing yet."""
        process.greenlet = greenlet.greenlet(lambda: self._run(process), self._main)
        self.processes.append(process)
        self.say(f"{process.name} starts")
        return process

    @property
    def alive(self) -> list[Process]:
        """The processes that can continue."""
        return [process for process in self.processes if process.is_alive]

    def resume(self, process: Process) -> None:
        """Let a process continue until its next request."""
        if process.greenlet is None:
            raise AssertionError(process.name)
        self.steps += 1
        process.greenlet.switch()

    def kill(self, process: Process) -> None:
        """Let a process never continue."""
        if process.is_alive:
            process.is_alive = False
            self.say(f"{process.name} is killed")

    def pause(self, process: Process, operation: str = "", key: str = "") -> None:
        """Return to the scheduler; to be called by the process."""
        process.request = operation, key
        self._main.switch()
        if self._is_over:
            raise greenlet.GreenletExit

    def close(self) -> None:
        """End all processes, without further effects."""
        self._is_over = True
        for process in self.processes:
            if process.greenlet is not None and not process.greenlet.dead:
                process.greenlet.throw(greenlet.GreenletExit)

    def _run(self, process: Process) -> None:
        try:
            process.result = process.run(process)
            self.say(f"{process.name} ends")
        except greenlet.GreenletExit:
            return
        except (LostAnswerError, SupersededError, RunFolderError) as error:
            is_expected = not isinstance(error, RunFolderError) or process.has_missed
            self.check(is_expected, f"{process.name} ends: {error}")
            process.error = error
            self.say(f"{process.name} ends: {type(error).__name__}: {error}")
        except Exception as error:
            text = f"{process.name} breaks: {type(error).__name__}: {error}"
            raise error if isinstance(error, AssertionError) else ViolationError(text) from error
        process.is_alive = False


class FaultyStore:
    """
    The store as one process sees it.

    :param inner: what is really stored.
    :param on_change: called with the key after each change.
    :param late: gets the requests that happen later or never.
    """

    together = 1

    def __init__(
        self,
        scheduler: Scheduler,
        process: Process,
        inner: MemoryStore,
        on_change: Callable[[str, Process], None],
        late: list[tuple[Process, str, bytes]],
    ) -> None:
        self._scheduler = scheduler
        self._process = process
        self._inner = inner
        self._on_change = on_change
        self._late = late

    def create(self, key: str, data: bytes) -> bool:
        self._scheduler.issued.append((data, self._scheduler.steps))
        self._pause("create", key)
        fault = self._scheduler.pick(FAULTS) if self._scheduler.is_faulty else ""
        if fault in {"late", "repeated"}:
            self._late.append((self._process, key, data))
        if fault == "late":
            self._say(f"gets no answer to create {key}: it happens later or never")
            raise LostAnswerError(f"no answer to {key}")
        is_created = apply(self._inner, key, data, self._process, self._on_change)
        self._say(f"create {key}: {is_created}")
        if is_created:
            self._process.absent.pop(key, None)
        if fault == "lost":
            self._say(f"gets no answer to create {key}")
            raise LostAnswerError(f"no answer to {key}")
        return is_created

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        return None if self._is_hidden("get", key) else self._inner.get(key, start, end)

    def stat(self, key: str) -> Stat | None:
        return None if self._is_hidden("stat", key) else self._inner.stat(key)

    def new_upload(self, key: str) -> str:
        self._pause("new_upload", key)
        return self._inner.new_upload(key)

    @contextmanager
    def writer(self, key: str, upload: str | None = None) -> Iterator[IO[bytes]]:
        with self._inner.writer(key, upload) as out:
            yield out
            self._pause("publish", key)
        self._say(f"publishes {key}")
        self._on_change(key, self._process)

    def revoke(self, key: str, upload: str) -> None:
        self._pause("revoke", key)
        self._inner.revoke(key, upload)

    def _is_hidden(self, operation: str, key: str) -> bool:
        self._pause(operation, key)
        process, is_missing = self._process, self._inner.stat(key) is None
        if is_missing:
            process.absent.setdefault(key, STALE_PROBES)
            return False
        if self._scheduler.is_faulty and process.absent.get(key, 0) and self._scheduler.choose(3) == 2:
            process.absent[key] -= 1
            process.has_missed = True
            self._say(f"does not see {key}")
            return True
        process.absent.pop(key, None)
        return False

    def _pause(self, operation: str, key: str) -> None:
        self._scheduler.pause(self._process, operation, key)

    def _say(self, text: str) -> None:
        self._scheduler.say(f"{self._process.name} {text}")


def apply(
    store: MemoryStore, key: str, data: bytes, process: Process, on_change: Callable[[str, Process], None]
) -> bool:
    """Create a key, and report it if it is new."""
    is_new = store.stat(key) is None
    is_created = store.create(key, data)
    if is_new:
        on_change(key, process)
    return is_created
