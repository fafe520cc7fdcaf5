"""
Records of a shard's log and of the logs of its loans.

Frozen values without behavior, as in airflow_prs.records. The header of each record carries all that counts at that
point, so the last record of a log is enough to know the state of its shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from airflow_prs.records import Progress


class Epoch(NamedTuple):
    """
    What lies between two clears. A claim of a newer epoch gives the shard's failed mini-batches fresh tries.

    :param execution: the execution of plan: number of its record in the task log.
    :param clear: the run's ``clear_number`` when the attempt started.
    """

    execution: int
    clear: int


@dataclass(frozen=True, slots=True)
class Writer:
    """
    A process of a node that writes outcomes and rows.

    :param id: random.
    :param node: ``<host>-<shard>-<try>``.
    :param shard: number of its own shard, where its rows are.
    """

    id: str
    node: str
    shard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    An attempt's claim to a shard. The claimant of the last record is the one that may append.

    :param writer: its process.
    :param epoch: its epoch.
    :param try_number: try number of the Airflow task.
    :param max_tries: max_tries of the Airflow task.
    :param suspected: ranges of indices (first, end) that are tried first, alone: an attempt before, or a borrower, may
        have died of them. A crowd of suspects is not among them: it is handed out a few at a time.
    :param started: when the attempt began, in seconds since the epoch (UTC).
    """

    writer: Writer
    epoch: Epoch
    try_number: int
    max_tries: int = 0
    suspected: tuple[tuple[int, int], ...] = ()
    started: float = 0.0

    @property
    def order(self) -> tuple[int, int]:
        """Attempts are ordered by execution of plan, then by try number."""
        return self.epoch.execution, self.try_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """
    Mini-batches that another node works on.

    :param number: number of the request, which names the loan.
    :param first: index of the first mini-batch.
    :param end: one past the index of the last one.
    :param borrower: who works on them.
    """

    number: int
    first: int
    end: int
    borrower: Writer

    @property
    def count(self) -> int:
        """Number of its mini-batches."""
        return self.end - self.first


class Closing(str, Enum):
    """How an attempt ended, in its last record; an attempt without a closing runs or has died."""

    DONE = "done"
    ABORTED = "aborted"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    An object with the outcomes of many records of a shard's log, and the places of their failed tries.

    It begins after the checkpoint before it, which it names; see checkpoints.py.

    :param key: its key in the run folder.
    :param number: the last record whose outcomes it holds.
    :param size: number of outcomes and failed tries in it.
    """

    key: str
    number: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """
    The header of a record of a shard's log: a claim or a commit.

    The payload has the outcomes and failed tries that the record adds.

    :param is_claim: whether it is a claim.
    :param claim: the claim in force, in each of its commits too.
    :param progress: the shard's counts, without those of open loans.
    :param granted: index below which mini-batches may be handed out.
    :param trying: the mini-batch that is tried alone, and the number of that try; None: there is none.
    :param closing: how the attempt ended; None: it has not ended.
    :param loans: the open loans.
    :param writers: all writers of outcomes so far; ``writer`` of an outcome is a position in it.
    :param checkpoint: the newest one; None: there is none.
    :param outcomes: number of outcomes in the payload; failed tries follow, a line each.
    :param after_checkpoint: number of outcomes and failed tries since the newest checkpoint.
    :param reopened: number of the last claim that gave failed mini-batches fresh tries; -1: there is none. Their
        outcomes and their tries in this record and those before it do not count.
    :param at: when it was written, in seconds since the epoch (UTC).
    """

    is_claim: bool = False
    claim: Claim
    progress: Progress
    granted: int
    trying: tuple[int, int] | None = None
    closing: Closing | None = None
    loans: tuple[Loan, ...] = ()
    writers: tuple[Writer, ...] = ()
    checkpoint: Checkpoint | None = None
    outcomes: int = 0
    after_checkpoint: int = 0
    reopened: int = -1
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanRequest:
    """
    The header of a record of a shard's requests: a node asks for mini-batches.

    :param claimant: id of the writer whose claim is asked.
    :param borrower: who asks.
    :param at: when it was written, in seconds since the epoch (UTC).
    """

    claimant: str
    borrower: Writer
    at: float = 0.0


class LoanStatus(str, Enum):
    """The state of a loan in a record of its log."""

    OPEN = "open"
    """The borrower works on it; its first record is the lender's."""
    WITHDRAWN = "withdrawn"
    """The borrower no longer wants it; nothing was lent."""
    CLOSED = "closed"
    """The borrower has ended it; it works on nothing any more."""
    ENDED = "ended"
    """The lender, or a later attempt at the shard, has ended it; the borrower may still be working on something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanRecord:
    """
    The header of a record of a loan's log. The payload has the outcomes and failed tries that the record adds.

    :param status: see LoanStatus.
    :param first: index of the first mini-batch.
    :param end: one past the index of the last one; equal to ``first``: nothing was lent.
    :param granted: index below which the borrower may hand out mini-batches.
    :param progress: its counts; the totals are 0, for the shard counts them.
    :param outcomes: number of outcomes in the payload; failed tries follow, a line each.
    :param at: when it was written, in seconds since the epoch (UTC).
    """

    status: LoanStatus
    first: int = 0
    end: int = 0
    granted: int = 0
    progress: Progress = field(default_factory=Progress)
    outcomes: int = 0
    at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the borrower works on it."""
        return self.status is LoanStatus.OPEN
