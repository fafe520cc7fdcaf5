"""
Writing one attempt at a shard.

An attempt begins with a claim that takes over what its predecessors have committed. A commit is three appends, each
durable before the next one: the workers' rows, the outcomes and failed tries, and last a line of the commit log that
names their sizes. Only one attempt writes to each file, so nobody reads what an attempt writes after it was superseded.
"""

from __future__ import annotations

import operator
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import FailedTry, Outcome, Progress, Shard, TryStatus
from airflow_prs.run_folder import ledger
from airflow_prs.run_folder.attempt_records import Claim, Closing, Commit, Loan, StoredVerdict
from airflow_prs.run_folder.names import AttemptNames, attempt_name, is_loan
from airflow_prs.run_folder.verdicts import set_aside_by_clear
from airflow_prs.store import files

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """
    What an attempt takes over from its predecessors.

    :param done: for each of the shard's mini-batches, by position, whether it has an outcome.
    :param failed: for each of them, whether it has failed.
    :param progress: the shard's counts.
    :param tries: index to the number of failed tries, for mini-batches that will be tried again.
    :param suspects: indices that a predecessor may have been working on when it died; they are tried first, alone.
    :param charged: the mini-batch that was being tried alone when the predecessor died, and the number of that try.
    """

    done: npt.NDArray[Any]
    failed: npt.NDArray[Any]
    progress: Progress
    tries: dict[int, int] = field(default_factory=dict)
    suspects: tuple[int, ...] = ()
    charged: tuple[int, int] | None = None


class Attempt:
    """
    One attempt at a shard, the only writer of its files.

    :param shard: the shard; for a loan, the mini-batches that were lent.
    :param names: the paths in its folder.
    :param claim: its claim.
    :param inheritance: what it took over.
    """

    def __init__(self, shard: Shard, names: AttemptNames, claim: Claim, inheritance: Inheritance) -> None:
        self.names = names
        self.claim = claim
        self.inheritance = inheritance
        self.shard = shard
        self._last_commit: Commit | None = None
        self._has_failed = False
        self._asked: list[str] = []
        self._seen: set[str] = set()
        self._outcome_type = ledger.outcome_type()
        self._outcomes = files.Appender(names.outcomes)
        self._tries = files.Appender(names.tries)
        self._commits = files.Appender(names.commits)
        files.sync_folder(names.path)

    def commit(
        self,
        outcomes: Iterable[Outcome],
        failed_tries: Iterable[FailedTry],
        *,
        progress: Progress,
        granted: int,
        processes: Iterable[int] = (),
        trying: tuple[int, int] | None = None,
        closing: Closing | None = None,
        loans: Iterable[Loan] = (),
    ) -> None:
        """
        Make outcomes and their rows durable, and count them.

        :param progress: the shard's counts, including these outcomes.
        :param granted: index below which mini-batches may be handed out from now on.
        :param processes: worker processes whose rows files have rows of these outcomes.
        :param trying: the mini-batch that will be tried alone next, and the number of that try.
        :param closing: how the attempt ends; no commit follows.
        :param loans: all loans of the attempt so far; ``progress`` includes the counts of those that are not open.
        :raises RunFolderError: if an earlier commit failed; data that it wrote in part would make the next one invalid.
        """
        if self._has_failed:
            raise RunFolderError(f"an earlier commit to {self.names.path} failed; this attempt commits no more.")
        self._has_failed = True
        for process in processes:
            files.sync_file(self.names.rows(process))
        records = self._records(outcomes)
        if records:
            self._outcomes.append(records)
        tries = b"".join(ledger.FAILED_TRY.dump_json(failed) + b"\n" for failed in failed_tries)
        if tries:
            self._tries.append(tries)
        commit = Commit(
            outcomes=self._outcomes.size // self._outcome_type.itemsize,
            tries_bytes=self._tries.size,
            crc=zlib.crc32(records),
            progress=progress,
            granted=granted,
            trying=trying,
            closing=closing,
            loans=tuple(loans),
            at=time.time(),
        )
        self._commits.append(ledger.COMMIT.dump_json(commit) + b"\n")
        self._last_commit = commit
        self._has_failed = False

    def is_newest(self) -> bool:
        """Whether no later attempt has begun; for a loan: no attempt later than the lender."""
        names = ledger.entry_names(self.names.path.parent)
        self._asked = [name for name in names if is_loan(name) and name not in self._seen]
        return max(name for name in names if not is_loan(name)) == (self.claim.lender or self.names.path.name)

    @property
    def has_requests(self) -> bool:
        """Whether another node may have asked for a loan, as of the last is_newest()."""
        return bool(self._asked)

    def read_requests(self) -> list[Claim]:
        """Return the claims that ask this attempt for a loan, as of the last is_newest(); each is returned once."""
        requests = []
        for name in self._asked:
            names = AttemptNames(self.names.path.parent / name)
            claim = ledger.read_claim(names)
            if claim is None:
                continue
            self._seen.add(name)
            if claim.lender == self.names.path.name and ledger.last_commit(names.commits, None)[0] is None:
                requests.append(claim)
        self._asked = []
        return requests

    def read_loans(self, loans: Iterable[Loan]) -> list[ledger.LoanState]:
        """Return the state of some of its loans."""
        return [ledger.read_loan(self.names.path.parent, loan) for loan in loans]

    def loan_names(self, loan: Loan) -> AttemptNames:
        """Return the paths of one of its loans."""
        return AttemptNames(self.names.path.parent / loan.name)

    @property
    def state(self) -> ledger.ShardState:
        """The state of the shard at this attempt's last commit, with the current state of its loans."""
        commit = self._last_commit
        return ledger.ShardState(
            shard=self.shard,
            claim=self.claim,
            commit=commit,
            committed_bytes=self._commits.size,
            loans=tuple(self.read_loans(commit.loans)) if commit is not None else (),
        )

    def close(self) -> None:
        """Close the files; without a closing commit the attempt will count as died."""
        for appender in (self._outcomes, self._tries, self._commits):
            appender.close()

    def _records(self, outcomes: Iterable[Outcome]) -> bytes:
        import numpy as np

        # The first field is the index, so sorting the records puts them in the order of the index.
        record = operator.attrgetter(*(self._outcome_type.names or ()))
        return np.array(sorted(map(record, outcomes)), self._outcome_type).tobytes()


def open_attempt(
    shard: Shard,
    shard_folder: Path,
    *,
    try_number: int,
    task_instance_id: str,
    max_tries: int,
    node: str,
    window: int,
    verdicts: Sequence[StoredVerdict],
    again: int = 0,
) -> Attempt:
    """
    Claim a shard and return the attempt.

    :param try_number: try number of the Airflow task.
    :param max_tries: max_tries of the Airflow task; if it differs from the previous claim, the shard was cleared.
    :param node: ``<host>-<shard>-<try>``.
    :param window: how many mini-batches may be handed out before the first commit.
    :param verdicts: all verdicts so far; a clear sets them aside.
    :param again: how many attempts this try has made before, each to take back its loans.
    :raises SupersededError: if a later attempt has begun, or another process runs this attempt.
    """
    name = attempt_name(try_number, task_instance_id, again)
    state = ledger.read_shard(shard, shard_folder)
    before = state.claim
    is_cleared = before is not None and before.max_tries != max_tries
    claim = Claim(
        attempt=name,
        try_number=try_number,
        max_tries=max_tries,
        node=node,
        predecessors=state.chain,
        reopened=_reopened(state, is_cleared=is_cleared),
        suspected=_suspected(state),
        set_aside=_set_aside(before, verdicts, is_cleared=is_cleared),
        started=time.time(),
    )
    inheritance = _inherit(state, replace(claim, granted=state.granted), shard_folder)
    claim = replace(claim, granted=_first_grant(state, inheritance, window), progress=inheritance.progress)
    names = AttemptNames(shard_folder / name)
    write_claim(names, claim)
    attempt = Attempt(shard, names, claim, inheritance)
    if not attempt.is_newest():
        attempt.close()
        raise SupersededError(f"a later attempt at shard {shard.number} has begun; this one ({name}) stops.")
    return attempt


def _reopened(state: ledger.ShardState, *, is_cleared: bool) -> int:
    if is_cleared:
        return len(state.chain)
    return state.claim.reopened if state.claim is not None else 0


def _set_aside(before: Claim | None, verdicts: Sequence[StoredVerdict], *, is_cleared: bool) -> tuple[str, ...]:
    inherited = before.set_aside if before is not None else ()
    return tuple(sorted(set_aside_by_clear(verdicts, inherited))) if is_cleared else inherited


def _suspected(state: ledger.ShardState) -> tuple[tuple[int, int], ...]:
    """
    Return the ranges of indices that loans may have been working on when the new attempt took them back.

    Ranges of the previous claim stay if its attempt died, perhaps because of them. If it ended, it has finished them.
    """
    before = state.claim.suspected if state.claim is not None and state.is_running else ()
    loans = [(x.loan.first, x.granted) for x in state.loans if x.loan.is_open and x.closing is None]
    return (*before, *(stretch for stretch in loans if stretch[0] < stretch[1]))


def _inherit(state: ledger.ShardState, claim: Claim, shard_folder: Path) -> Inheritance:
    """Return what the claim's attempt takes over."""
    import numpy as np

    shard = state.shard
    # The attempt has no commits yet, so its state is what counts of its predecessors.
    inherited = ledger.ShardState(shard=shard, claim=claim)
    outcomes = ledger.read_outcomes(inherited, shard_folder)
    done, failed = np.zeros(shard.count, bool), np.zeros(shard.count, bool)
    places = outcomes["index"] - shard.first
    done[places], failed[places] = True, outcomes["status"] != TryStatus.RUN_DONE
    failed_tries = Counter(failed_try.index for failed_try in ledger.read_failed_tries(inherited, shard_folder))
    tries = {index: count for index, count in failed_tries.items() if not done[index - shard.first]}
    is_dead = state.is_running
    in_hand = np.zeros(shard.count, bool)
    for first, end in (*claim.suspected, *([(shard.first, state.granted)] if is_dead else [])):
        in_hand[first - shard.first : end - shard.first] = True
    suspects = tuple((np.flatnonzero(in_hand & ~done) + shard.first).tolist())
    charged = state.commit.trying if is_dead and state.commit is not None else None
    return Inheritance(
        done=done,
        failed=failed,
        progress=_progress(shard, outcomes, tries),
        tries=tries,
        suspects=suspects,
        charged=charged if charged is not None and charged[0] in suspects else None,
    )


def _progress(shard: Shard, outcomes: npt.NDArray[Any], tries: dict[int, int]) -> Progress:
    succeeded = outcomes[outcomes["status"] == TryStatus.RUN_DONE]
    return Progress(
        total=shard.count,
        handed_out=len(outcomes) + len(tries),
        succeeded=len(succeeded),
        failed=len(outcomes) - len(succeeded),
        failing=len(tries),
        items_total=shard.items,
        items_succeeded=int(outcomes["succeeded"].sum()),
        items_failed=int((outcomes["items"] - outcomes["succeeded"]).sum()),
        elements=int(succeeded["returned"].sum()),
        output_bytes=int(succeeded["length"].sum()),
    )


def _first_grant(state: ledger.ShardState, inheritance: Inheritance, window: int) -> int:
    """
    Return the index below which mini-batches may be handed out before the first commit.

    No others are handed out while suspects are left, so the previous limit stays if the predecessor has died.
    """
    if inheritance.suspects:
        return state.granted if state.is_running else state.shard.first
    import numpy as np

    pending = np.flatnonzero(~inheritance.done)
    return state.shard.end if len(pending) <= window else int(pending[window]) + state.shard.first


def write_claim(names: AttemptNames, claim: Claim) -> None:
    """
    Make the folder of an attempt or a loan, and write its claim.

    :raises SupersededError: if another process has made the folder.
    """
    files.make_folder(names.path.parent)
    try:
        names.path.mkdir()
    except FileExistsError:
        raise SupersededError(
            f"another process already runs this attempt ({names.path.name}) of the shard; this one stops."
        ) from None
    files.sync_folder(names.path.parent)
    files.write_atomically(names.claim, ledger.CLAIM.dump_json(claim))
