"""
Records of what an attempt at a shard writes into the run folder: its claim, its commits, its loans; and verdicts.

Frozen values without behavior, as in airflow_prs.records; `ledger` and `verdicts` read them from the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from airflow_prs.records import Progress, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """
    An earlier attempt or a loan, and how many bytes of its commit log count.

    :param rows: where its rows files are, ``<shard>/<attempt>``; '': in its own folder.
    """

    attempt: str
    committed_bytes: int
    rows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    How an attempt at a shard opens; the newest one says what of all attempts counts.

    :param attempt: ``<try number, six digits>-<task instance id>``.
    :param try_number: Airflow's; the highest is the newest.
    :param max_tries: Airflow's; another number than the predecessor's means that the shard was cleared.
    :param node: ``<host>-<shard>-<try>``.
    :param predecessors: the attempts before it, oldest first.
    :param reopened: how many of the predecessors' failed mini-batches were reopened by a clear: those of the first
        ``reopened`` predecessors.
    :param set_aside: names of the verdicts that do not bind it.
    :param granted: index below which mini-batches may be handed out before the first commit.
    :param suspected: stretches of indices, first and end, that loans may have had in hand when they were taken back.
    :param progress: the shard's counts when it opened.
    :param started: moment, seconds since the epoch (UTC).
    :param lender: the attempt that a loan is asked of; '': it is no loan.
    :param rows: where a loan's rows files are, ``<shard>/<attempt>``: the worker processes go on with theirs.
    """

    attempt: str
    try_number: int
    max_tries: int
    node: str
    predecessors: tuple[Link, ...] = ()
    reopened: int = 0
    set_aside: tuple[str, ...] = ()
    granted: int = 0
    suspected: tuple[tuple[int, int], ...] = ()
    progress: Progress = field(default_factory=Progress)
    started: float = 0.0
    lender: str = ""
    rows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """
    The lender's answer to a node that asked for mini-batches.

    :param name: of the loan's folder, beside the shard's attempts.
    :param first: index of the first mini-batch that was lent.
    :param end: one past the index of the last one; equal to ``first``: nothing was lent.
    :param rows: see Claim.rows.
    :param committed_bytes: length of its commit log when its counts were added to the lender's; None: it is open.
    """

    name: str
    first: int
    end: int
    rows: str = ""
    committed_bytes: int | None = None

    @property
    def count(self) -> int:
        """Number of its mini-batches."""
        return self.end - self.first

    @property
    def is_open(self) -> bool:
        """Whether its mini-batches are still the other node's business."""
        return self.count > 0 and self.committed_bytes is None


class Closing(str, Enum):
    """How an attempt ended, in its last commit; without one it died."""

    DONE = "done"
    ABORTED = "aborted"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """
    A line of an attempt's commit log; it comes last and vouches for the lengths that it names.

    :param outcomes: records in the attempt's outcomes file.
    :param tries_bytes: bytes of the attempt's failed tries file.
    :param crc: CRC-32 of the outcome records that this commit added.
    :param progress: the shard's counts, those of its predecessors and of loans that are no longer open included.
    :param granted: index below which mini-batches may be handed out.
    :param trying: the mini-batch that is about to be tried alone, and the number of that try; None otherwise.
    :param closing: how the attempt ended; None while it goes on.
    :param loans: all that the attempt has lent so far.
    :param at: moment, seconds since the epoch (UTC).
    """

    outcomes: int
    tries_bytes: int
    crc: int
    progress: Progress
    granted: int
    trying: tuple[int, int] | None = None
    closing: Closing | None = None
    loans: tuple[Loan, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    """
    A verdict as the run folder holds it.

    :param name: its file's name without suffix.
    :param verdict: what was ruled.
    :param counted: shard number to the attempt and committed bytes that were counted.
    :param author: who wrote it: ``gatekeeper`` or a node's name.
    :param counted_loans: likewise for the loans of that attempt.
    :param set_aside: verdicts that its author had set aside.
    :param at: moment, seconds since the epoch (UTC).
    """

    name: str
    verdict: Verdict
    counted: Mapping[int, Link]
    author: str
    at: float
    set_aside: tuple[str, ...] = ()
    counted_loans: Mapping[int, tuple[Link, ...]] = field(default_factory=dict)
