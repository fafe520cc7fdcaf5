"""What a slot, the desk that gives it work and the home of its processes say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_prs.node.processes.process import Message, WorkerProcess
from airflow_prs.node.work.queue import Hand
from airflow_prs.records import Outcome, Status
from airflow_prs.worker.channel import Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A try that failed.

    :param hand: what was tried.
    :param process: name of the worker process.
    :param started: moment, seconds since the epoch (UTC).
    :param is_hopeless: whether the script says that another try would not help.
    :param wait_s: how long the script asks to wait before the next try.
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
    is_hopeless: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """
    A worker process that never became ready.

    :param stage: ``environment``, ``import``, ``init`` or ``timeout``.
    :param is_hopeless: whether another try would only repeat it, unless it worked in another process.
    :param is_final: whether the script itself says so.
    """

    stage: str
    error: str
    traceback: str = ""
    is_hopeless: bool = False
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    How processes are treated.

    :param run_s: seconds for a call of run().
    :param load_s: seconds for loading a mini-batch.
    :param init_s: seconds for init().
    :param shutdown_s: seconds for shutdown().
    :param exit_s: seconds for a process to end by itself once it has nothing more to do.
    :param has_tables: whether mini-batches are loaded before run() is called, which the process then tells.
    :param most_mini_batches: after which a process is replaced; None: never for that.
    :param most_memory_bytes: above which a process is replaced between mini-batches; None: never for that.
    """

    run_s: float
    load_s: float
    init_s: float
    shutdown_s: float
    exit_s: float
    has_tables: bool = False
    most_mini_batches: int | None = None
    most_memory_bytes: int | None = None


class Desk(Protocol):
    """Where slots get their work, and bring what came of it."""

    def next_hand(self, *, slot: int, may_be_alone: bool) -> Hand | None:
        """Take what a slot should do next; None: nothing now."""

    def take_outcome(self, outcome: Outcome) -> None:
        """Take the outcome of a mini-batch that succeeded."""

    def take_failure(self, failure: Failure) -> None:
        """Take a failed try."""

    def give_back(self, hands: list[Hand]) -> None:
        """Take back what came to nothing through no fault of its own."""

    def fair_share(self) -> int:
        """Say how many mini-batches a process may hold so that the others get theirs."""


class Home(Protocol):
    """Where slots get their processes, and who has work for them."""

    def desk_for(self, slot: int, before: Desk) -> Desk:
        """Find the desk that a slot with nothing in hand should turn to; the one before, if none has work."""

    async def start(self, slot: int, on_messages: Callable[[list[Message]], None]) -> WorkerProcess:
        """Start a worker process for a slot."""

    def take_start_failure(self, failure: StartFailure) -> None:
        """Take a process that did not become ready."""

    def say(self, text: str) -> None:
        """Put a line into the task log."""


def order_of(hand: Hand, *, has_tables: bool) -> list[Any]:
    """
    Describe a mini-batch to a worker: index, try, input, items, partition, its paths or pieces, and their versions.

    :param has_tables: whether mini-batches are read from pieces, not given as paths.
    """
    mini_batch = hand.mini_batch
    partition = None if mini_batch.partition is None else dict(mini_batch.partition)
    if has_tables:
        pieces: list[Any] = [[p.path, p.begin, p.end, p.row_group] for p in mini_batch.pieces]
    else:
        pieces = [piece.path for piece in mini_batch.pieces]
    versions = [piece.version for piece in mini_batch.pieces]
    return [mini_batch.index, hand.try_number, mini_batch.input, mini_batch.items, partition, pieces, versions]


def outcome_of(hand: Hand, answer: Done, *, process: int) -> Outcome:
    """
    Make an outcome of a worker's answer to a mini-batch that succeeded.

    :param process: number of the worker process.
    """
    index, returned, offset, length, crc, started, duration_s, run_s, cpu_s = answer
    return Outcome(
        index=index,
        status=Status.RUN_DONE,
        tries=hand.try_number,
        items=hand.mini_batch.items,
        succeeded=min(hand.mini_batch.items, returned),
        returned=returned,
        process=process,
        offset=offset,
        length=length,
        crc=crc,
        started=started,
        duration_s=duration_s,
        run_s=run_s,
        cpu_s=cpu_s,
    )
