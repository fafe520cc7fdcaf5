"""
Reading what the attempts at a shard have committed.

The newest claim of a shard determines what counts: its predecessors up to the sizes that it names, all commits of its
own attempt, and the commits of the loans that this attempt's last commit names. Readers ignore everything else in the
shard's folder.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from airflow_prs.errors import RunFolderError
from airflow_prs.records import FailedTry, Progress, Shard, TryStatus
from airflow_prs.run_folder.attempt_records import Claim, Closing, Commit, Link, Loan
from airflow_prs.run_folder.names import AttemptNames, is_loan, linked_names
from airflow_prs.store import files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CLAIM: TypeAdapter[Claim] = TypeAdapter(Claim)
COMMIT: TypeAdapter[Commit] = TypeAdapter(Commit)
FAILED_TRY: TypeAdapter[FailedTry] = TypeAdapter(FailedTry)

_FIELDS = [
    ("index", "<i8"),
    ("items", "<i8"),
    ("succeeded", "<i8"),
    ("returned", "<i8"),
    ("offset", "<i8"),
    ("length", "<i8"),
    ("started", "<f8"),
    ("duration_s", "<f4"),
    ("run_s", "<f4"),
    ("cpu_s", "<f4"),
    ("crc", "<u4"),
    ("process", "<u4"),
    ("tries", "<u2"),
    ("status", "<u2"),
]
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanState:
    """
    What counts of a loan now.

    :param loan: the loan, from its lender's last commit.
    :param commit: its last commit; None: there is none yet, or its counts have been added to the lender's.
    :param committed_bytes: size of its commit log up to that commit.
    """

    loan: Loan
    commit: Commit | None = None
    committed_bytes: int = 0

    @property
    def progress(self) -> Progress:
        """The counts to add to the lender's."""
        return self.commit.progress if self.commit is not None else Progress()

    @property
    def granted(self) -> int:
        """Index below which its mini-batches may have been handed out."""
        return self.commit.granted if self.commit is not None else self.loan.first

    @property
    def closing(self) -> Closing | None:
        """How it ended; None: it has not ended."""
        return self.commit.closing if self.commit is not None else None

    @property
    def link(self) -> Link:
        """How much of it counts."""
        return Link(attempt=self.loan.name, committed_bytes=self.committed_bytes, rows=self.loan.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """
    What counts of a shard now.

    :param shard: the shard.
    :param claim: the newest claim; None: no attempt has begun.
    :param commit: the last commit of its attempt; None: there is none yet.
    :param committed_bytes: size of its commit log up to that commit.
    :param loans: the loans that the commit names.
    """

    shard: Shard
    claim: Claim | None = None
    commit: Commit | None = None
    committed_bytes: int = 0
    loans: tuple[LoanState, ...] = ()

    @property
    def progress(self) -> Progress:
        """The shard's counts over all attempts and loans."""
        if self.commit is not None:
            return sum((state.progress for state in self.loans), self.commit.progress)
        if self.claim is not None:
            return self.claim.progress
        return Progress(total=self.shard.count, items_total=self.shard.items)

    @property
    def granted(self) -> int:
        """Index below which mini-batches may have been handed out."""
        if self.commit is not None:
            return self.commit.granted
        return self.claim.granted if self.claim is not None else self.shard.first

    @property
    def closing(self) -> Closing | None:
        """How its newest attempt ended; None: it continues, or has died."""
        return self.commit.closing if self.commit is not None else None

    @property
    def is_done(self) -> bool:
        """Whether every mini-batch of the shard has an outcome, and its newest attempt has ended."""
        return self.closing is Closing.DONE

    @property
    def is_running(self) -> bool:
        """Whether its newest attempt continues, or has died."""
        return self.claim is not None and self.closing is None

    @property
    def not_handed_out(self) -> int:
        """Number of mini-batches that the newest attempt has neither handed out nor lent."""
        progress = self.progress
        lent = sum(state.loan.count - state.progress.handed_out for state in self.loans if state.loan.is_open)
        return progress.total - progress.handed_out - lent

    @property
    def newest_links(self) -> tuple[Link, ...]:
        """Links to the newest attempt and its loans."""
        if self.claim is None:
            return ()
        own = Link(attempt=self.claim.attempt, committed_bytes=self.committed_bytes)
        return (own, *(state.link for state in self.loans if state.committed_bytes))

    @property
    def chain(self) -> tuple[Link, ...]:
        """Links to all attempts and loans that count, oldest first."""
        return (*self.claim.predecessors, *self.newest_links) if self.claim is not None else ()


def outcome_type() -> np.dtype[Any]:
    """Return the type of an outcome in an attempt's file: fields of records.Outcome, little-endian, without gaps."""
    import numpy as np

    return np.dtype(_FIELDS)


def newest_claim(shard_folder: Path) -> Claim | None:
    """Return the claim with the highest try number; None: there is none."""
    for name in sorted(attempt_names(shard_folder), reverse=True):
        claim = read_claim(AttemptNames(shard_folder / name))
        if claim is not None:
            return claim
    return None


def attempt_names(shard_folder: Path) -> list[str]:
    """Return the names of the attempts at a shard, including those whose claim is not written yet."""
    return [name for name in entry_names(shard_folder) if not is_loan(name)]


def entry_names(shard_folder: Path) -> list[str]:
    """Return the names of the attempts at a shard, and of the loans that it was asked for."""
    try:
        return [entry.name for entry in shard_folder.iterdir()]
    except FileNotFoundError:
        return []


def read_claim(names: AttemptNames) -> Claim | None:
    """Return an attempt's claim; None: it is not written yet."""
    try:
        return CLAIM.validate_json(names.claim.read_bytes())
    except FileNotFoundError:
        return None


def read_shard(shard: Shard, shard_folder: Path) -> ShardState:
    """Return a shard's state: two small reads for a shard of any size, and one more for each open loan."""
    claim = newest_claim(shard_folder)
    if claim is None:
        return ShardState(shard=shard)
    commit, committed_bytes = last_commit(AttemptNames(shard_folder / claim.attempt).commits, None)
    loans = tuple(read_loan(shard_folder, loan) for loan in commit.loans) if commit is not None else ()
    return ShardState(shard=shard, claim=claim, commit=commit, committed_bytes=committed_bytes, loans=loans)


def read_loan(shard_folder: Path, loan: Loan) -> LoanState:
    """Return the state of a loan; for a loan that is not open nothing is read."""
    if not loan.is_open:
        return LoanState(loan=loan, committed_bytes=loan.committed_bytes or 0)
    commit, committed_bytes = last_commit(AttemptNames(shard_folder / loan.name).commits, None)
    return LoanState(loan=loan, commit=commit, committed_bytes=committed_bytes)


def last_commit(path: Path, end: int | None) -> tuple[Commit | None, int]:
    """
    Return the last complete line of a commit log; an incomplete line at the end is ignored.

    :param end: how many bytes of the log count; None: all.
    :return: the commit, and the position where its line ends; ``(None, 0)`` if there is none.
    """
    size = _TAIL_BYTES
    while True:
        tail, start = files.read_tail(path, end, size)
        stop = len(tail)
        while (line_end := tail.rfind(b"\n", 0, stop)) >= 0:
            line_start = tail.rfind(b"\n", 0, line_end) + 1
            if line_start == 0 and start > 0:
                break
            commit = _parse_commit(tail[line_start:line_end])
            if commit is not None:
                return commit, start + line_end + 1
            stop = line_start
        if start == 0:
            return None, 0
        size *= 4


def _parse_commit(line: bytes) -> Commit | None:
    try:
        return COMMIT.validate_json(line)
    except ValidationError:
        return None


def read_outcomes(state: ShardState, shard_folder: Path) -> npt.NDArray[Any]:
    """
    Return the outcomes that count, at most one per mini-batch, sorted by index.

    :return: a structured array with the fields of records.Outcome, and ``attempt``, a position in ``state.chain``.
    :raises RunFolderError: if committed outcomes are damaged.
    """
    import numpy as np

    parts = [_read_attempt(linked_names(shard_folder, link), link.committed_bytes) for link in state.chain]
    for position, part in enumerate(parts):
        part["attempt"] = position
        if state.claim is not None and position < state.claim.reopened:
            parts[position] = part[part["status"] == TryStatus.RUN_DONE]
    if not parts:
        return np.empty(0, _numbered_type())
    outcomes = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # After a stable sort the last outcome of a mini-batch is that of the latest attempt, which counts.
    order = np.argsort(outcomes["index"], kind="stable")
    indices = outcomes["index"].take(order)
    is_last = np.append(indices[1:] != indices[:-1], True)[: len(indices)]
    counting: npt.NDArray[Any] = outcomes.take(order[is_last])
    return counting


def _numbered_type() -> np.dtype[Any]:
    """Return the type of an outcome with the position of its attempt."""
    import numpy as np

    return np.dtype([*_FIELDS, ("attempt", "<u4")])


def _read_attempt(names: AttemptNames, committed_bytes: int) -> npt.NDArray[Any]:
    """Return the outcomes that an attempt has committed; the caller fills in ``attempt``."""
    import numpy as np

    kind, numbered = outcome_type(), _numbered_type()
    if committed_bytes == 0:
        return np.empty(0, numbered)
    with names.outcomes.open("rb") as file:
        outcomes = np.empty(os.fstat(file.fileno()).st_size // kind.itemsize, numbered)
        # The fields have the same offsets as in the file, so entire records are copied at a time.
        records = outcomes.view(np.uint8).reshape(-1, numbered.itemsize)[:, : kind.itemsize]
        done = 0
        for commit in read_commits(names, committed_bytes):
            size = (commit.outcomes - done) * kind.itemsize
            raw = file.read(max(size, 0))
            if len(raw) != size or zlib.crc32(raw) != commit.crc:
                raise RunFolderError(
                    f"{names.outcomes} is damaged: bytes {done * kind.itemsize} to {commit.outcomes * kind.itemsize} "
                    "are not what was committed. Clear the plan task to start over."
                )
            records[done : commit.outcomes] = np.frombuffer(raw, np.uint8).reshape(-1, kind.itemsize)
            done = commit.outcomes
    return outcomes[:done]


def read_commits(names: AttemptNames, committed_bytes: int) -> Iterator[Commit]:
    """Yield an attempt's commits that count, oldest first."""
    with names.commits.open("rb") as file:
        while file.tell() < committed_bytes and (line := file.readline()):
            commit = _parse_commit(line)
            if commit is None:
                raise RunFolderError(f"{names.commits} is damaged before byte {file.tell()}: clear plan to start over.")
            yield commit


def read_failed_tries(state: ShardState, shard_folder: Path) -> Iterator[FailedTry]:
    """
    Yield the failed tries that count.

    :raises RunFolderError: if a committed one is damaged.
    """
    for path, end in committed_tries(state, shard_folder):
        with path.open("rb") as file:
            while file.tell() < end:
                yield _parse_failed_try(path, file.readline())


def committed_tries(state: ShardState, shard_folder: Path) -> Iterator[tuple[Path, int]]:
    """
    Yield the files of failed tries that count, without those before a clear that reopened their mini-batches.

    :return: path, and how many bytes of the file count; oldest attempt first.
    """
    reopened = state.claim.reopened if state.claim is not None else 0
    for link in state.chain[reopened:]:
        names = AttemptNames(shard_folder / link.attempt)
        commit, _ = last_commit(names.commits, link.committed_bytes)
        if commit is not None and commit.tries_bytes:
            yield names.tries, commit.tries_bytes


def _parse_failed_try(path: Path, line: bytes) -> FailedTry:
    try:
        return FAILED_TRY.validate_json(line)
    except ValidationError:
        raise RunFolderError(f"{path} is damaged: a committed line is broken. Clear plan to start over.") from None
