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
    A link to an attempt or a loan, and how many bytes of its commit log count.

    :param attempt: name of its folder.
    :param committed_bytes: how many bytes of its commit log count.
    :param rows: folder of its rows files, ``<shard>/<attempt>``; '': its own folder.
    """

    attempt: str
    committed_bytes: int
    rows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    The first record of an attempt at a shard. The newest claim determines what counts of all attempts.

    :param attempt: ``<try number, six digits>-<task instance id>``.
    :param try_number: try number of the Airflow task; the highest is the newest.
    :param max_tries: max_tries of the Airflow task; if it differs from the predecessor's, the shard was cleared.
    :param node: ``<host>-<shard>-<try>``.
    :param predecessors: the earlier attempts and loans that count, oldest first.
    :param reopened: number of predecessors, from the first one, whose failed mini-batches a clear has reopened.
    :param set_aside: names of the verdicts that do not apply to it.
    :param granted: index below which mini-batches may be handed out before the first commit.
    :param suspected: ranges of indices (first, end) that loans may have been working on when they were taken back.
    :param progress: the shard's counts when the attempt began.
    :param started: when the attempt began, in seconds since the epoch (UTC).
    :param lender: the attempt that is asked for a loan; '': this is not a loan.
    :param rows: folder of a loan's rows files, ``<shard>/<attempt>``: worker processes keep using their rows files.
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

    :param name: name of the loan's folder, which is next to the shard's attempts.
    :param first: index of the first mini-batch that was lent.
    :param end: one past the index of the last one; equal to ``first``: nothing was lent.
    :param rows: see Claim.rows.
    :param committed_bytes: size of its commit log when its counts were added to the lender's; None: it is open.
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
        """Whether the borrower is still responsible for its mini-batches."""
        return self.count > 0 and self.committed_bytes is None


class Closing(str, Enum):
    """How an attempt ended, in its last commit; an attempt without a closing runs or has died."""

    DONE = "done"
    ABORTED = "aborted"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """
    A line of an attempt's commit log. It is written last, so the files have at least the sizes that it names.

    :param outcomes: number of records in the attempt's outcomes file.
    :param tries_bytes: size of the attempt's file of failed tries.
    :param crc: CRC-32 of the outcome records that this commit added.
    :param progress: the shard's counts, including those of its predecessors and of loans that are no longer open.
    :param granted: index below which mini-batches may be handed out.
    :param trying: the mini-batch that will be tried alone next, and the number of that try; None: there is none.
    :param closing: how the attempt ended; None: it has not ended.
    :param loans: all loans of the attempt so far.
    :param at: when it was written, in seconds since the epoch (UTC).
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
    A verdict in the run folder.

    :param name: name of its file without the suffix.
    :param verdict: the verdict.
    :param counted: shard number to the attempt, and how much of it was counted.
    :param author: who wrote it: ``gatekeeper`` or a node's name.
    :param at: when it was written, in seconds since the epoch (UTC).
    :param set_aside: verdicts that its author had set aside.
    :param counted_loans: shard number to the loans of that attempt, and how much of each was counted.
    """

    name: str
    verdict: Verdict
    counted: Mapping[int, Link]
    author: str
    at: float
    set_aside: tuple[str, ...] = ()
    counted_loans: Mapping[int, tuple[Link, ...]] = field(default_factory=dict)
