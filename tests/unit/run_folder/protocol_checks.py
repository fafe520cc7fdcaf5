"""What must hold in every state of a simulated run; see protocol_world."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from airflow_prs.records import Outcome, Shard, TryStatus
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.loans import BorrowedWork
from airflow_prs.run_folder.shard_log import (
    LOAN_RECORD,
    SHARD_RECORD,
    ShardState,
    loan_log,
    read_content,
    read_shard,
    shard_log,
)
from airflow_prs.run_folder.shard_records import Closing, Epoch, LoanRecord, LoanStatus, ShardRecord
from airflow_prs.store.memory import MemoryStore
from tests.unit.run_folder.protocol_world import Scheduler

MOST_TRIES = 2


@dataclass(frozen=True, kw_only=True)
class Expected:
    """
    What a claim is to take over.

    :param done: indices to their statuses.
    :param suspects: those that must be suspects.
    :param may_suspect: whether there may be others.
    :param tries: failed tries of mini-batches without an outcome.
    :param charged: what was being tried alone.
    """

    done: dict[int, int]
    suspects: frozenset[int]
    may_suspect: bool
    tries: dict[int, int]
    charged: tuple[int, int] | None


class ShardChecks:
    """
    The promises about one shard.

    :param store: what is really stored.
    """

    def __init__(self, scheduler: Scheduler, store: MemoryStore, shard: Shard) -> None:
        self.shard = shard
        self._check = scheduler.check
        self._store = store
        self._records: list[ShardRecord] = []
        self._visible: dict[int, tuple[int, int]] = {}
        self._tries: Counter[int] = Counter()
        self._known: ShardState | None = None
        self._runs: dict[int, tuple[int, str]] = {}
        self._expected: dict[str, Expected] = {}
        self._failed: Counter[Epoch] = Counter()
        self._handed_out: defaultdict[object, set[int]] = defaultdict(set)

    @property
    def last(self) -> ShardRecord | None:
        """The last record."""
        return self._records[-1] if self._records else None

    @property
    def failed(self) -> int:
        """Number of mini-batches that have failed."""
        return sum(status != TryStatus.RUN_DONE for status, _ in self._visible.values())

    @property
    def is_complete(self) -> bool:
        """Whether every mini-batch has an outcome."""
        return len(self._visible) == self.shard.count

    def most_failed(self, epoch: Epoch) -> int:
        """Return the largest number of failed mini-batches with a claim of an epoch or a newer one."""
        return max((count for other, count in self._failed.items() if other >= epoch), default=0)

    # What processes report

    def note_claim(self, attempt: Attempt) -> None:
        """Check what an attempt has taken over."""
        expected, found = self._expected[attempt.writer.id], attempt.inheritance
        first = self.shard.first
        done = {first + place for place in np.flatnonzero(found.done).tolist()}
        failed = {first + place for place in np.flatnonzero(found.failed).tolist()}
        self._check(done == set(expected.done), f"takes over {done}, not {expected.done}")
        self._check(failed == {i for i, status in expected.done.items() if status}, f"takes over {failed} as failed")
        suspects = {*found.suspects, *found.crowd}
        self._check(expected.suspects <= suspects, f"only {suspects} are suspects, not {set(expected.suspects)}")
        self._check(expected.may_suspect or suspects == expected.suspects, f"{suspects} are suspects without a reason")
        self._check(not suspects & done, f"{suspects & done} are suspects with an outcome")
        granted = set(range(first, attempt.state.granted)) - done
        self._check(not found.crowd or len(granted) <= found.group < len(suspects), f"a crowd is granted {granted}")
        self._check(found.tries == expected.tries, f"takes over tries {found.tries}, not {expected.tries}")
        self._check(found.charged == expected.charged, f"charges {found.charged}, not {expected.charged}")

    def note_hand_out(self, unit: Attempt | BorrowedWork, index: int) -> None:
        """Check that a mini-batch may be handed out."""
        self._handed_out[_holder(unit)].add(index)
        if isinstance(unit, Attempt):
            record = next(x for x in reversed(self._records) if x.claim.writer.id == unit.writer.id)
            self._check(index not in self._expected[unit.writer.id].done, f"{index} runs again")
            is_granted = index < record.granted or (record.trying is not None and record.trying[0] == index)
            self._check(is_granted, f"{index} is handed out, granted below {record.granted}")
            is_newest = record is self._records[-1]
            lent = [loan for loan in record.loans if loan.first <= index < loan.end]
            self._check(not is_newest or not lent, f"{index} is handed out and lent")
        else:
            granted = self._loan_records(unit.loan.number)[-1].granted
            self._check(unit.loan.first <= index < granted, f"{index} is handed out, granted below {granted}")
            last = self._records[-1]
            is_newest = unit.loan in last.loans and self._loan_records(unit.loan.number)[-1].is_open
        self._check(not is_newest or index not in self._visible, f"{index} runs though it has an outcome")

    def note_run(self, row: int, index: int, writer: str) -> None:
        """Note who ran a mini-batch."""
        self._runs[row] = index, writer

    def note_commit(self, unit: Attempt | BorrowedWork, number: int, outcomes: Iterable[Outcome]) -> None:
        """Check that a commit that was acknowledged counts."""
        claims = [x for x in self._records[number:] if x.is_claim] if isinstance(unit, Attempt) else self._records
        if isinstance(unit, Attempt):
            record = self._records[number]
            self._check(record.claim.writer == unit.writer, "an acknowledged commit is not in the log")
        for outcome in outcomes:
            is_there = self._visible.get(outcome.index) == (int(outcome.status), outcome.offset)
            is_reopened = outcome.has_failed and any(x.is_claim for x in claims)
            self._check(is_there or is_reopened, f"the acknowledged outcome of {outcome.index} does not count")

    # What happens in the store

    def look_at_log(self) -> None:
        """Check the shard after a new record of its log."""
        number = len(self._records)
        found = shard_log(self._store, self.shard).read(number)
        if found is None:
            raise AssertionError("the caller has seen it")
        record, before = SHARD_RECORD.validate_json(found.header), self.last
        self._records.append(record)
        if record.is_claim:
            self._look_at_claim(before, record)
        elif before is None:
            self._check(condition=False, text="a log begins with a commit")
        else:
            self._check(record.claim == before.claim, "a superseded attempt commits")
            self._check(before.closing is None, "an attempt commits after its end")
            self._look()

    def look_at_loan(self, number: int) -> None:
        """Check the shard after a new record of a loan's log."""
        record = self._loan_records(number)[-1]
        if record.status in {LoanStatus.OPEN, LoanStatus.CLOSED} and self.last is not None:
            is_named = any(loan.number == number for loan in self.last.loans)
            self._check(is_named, f"loan {number} grows, and does not count")
        self._look()

    def _look(self, *, may_reopen: bool = False) -> None:
        state = read_shard(self._store, self.shard)
        self._known = read_shard(self._store, self.shard, self._known)
        self._check(state == self._known, f"a reader that reads on finds {self._known}, not {state}")
        content = read_content(self._store, state)
        outcomes, progress = content.outcomes, state.progress
        indices = outcomes["index"].tolist()
        self._check(indices == sorted(set(indices)), f"outcomes of {indices}")
        visible = dict(
            zip(indices, zip(outcomes["status"].tolist(), outcomes["offset"].tolist(), strict=True), strict=True)
        )
        tries = Counter(content.tries["index"].tolist())
        self._look_at_counts(outcomes, tries, state)
        for index, writer, (status, row) in zip(indices, outcomes["writer"].tolist(), visible.values(), strict=True):
            self._check(
                self._runs.get(row) == (index, state.writers[writer].id), f"the outcome of {index} has another's rows"
            )
            is_new = index not in self._visible
            self._check(
                not is_new or not status or tries[index] == MOST_TRIES, f"{index} fails after {tries[index]} tries"
            )
        for index, found in self._visible.items():
            is_kept = visible.get(index) == found
            self._check(
                is_kept or (may_reopen and found[0] and index not in visible), f"the outcome of {index} is lost"
            )
        self._visible, self._tries = visible, tries
        if state.epoch is not None:
            self._failed[state.epoch] = max(self._failed[state.epoch], progress.failed)
        self._check(progress.total == self.shard.count, f"{progress.total} mini-batches in all")

    def _look_at_counts(self, outcomes: Any, tries: Counter[int], state: ShardState) -> None:
        progress = state.progress
        succeeded = outcomes[outcomes["status"] == TryStatus.RUN_DONE]
        open_tries = set(tries) - set(outcomes["index"].tolist())
        counted = (progress.succeeded, progress.failed, progress.items_succeeded, progress.output_bytes)
        found = (len(succeeded), len(outcomes) - len(succeeded), int(outcomes["succeeded"].sum()))
        self._check(counted == (*found, int(succeeded["length"].sum())), f"counts {progress}, has {found}")
        self._check(progress.failing == len(open_tries), f"{progress.failing} are failing, not {open_tries}")
        at_least, most = progress.done + progress.failing, self.shard.count
        self._check(at_least <= progress.handed_out <= most, f"{progress.handed_out} were handed out")

    def _look_at_claim(self, before: ShardRecord | None, record: ShardRecord) -> None:
        claim = record.claim
        is_reopening = before is not None and claim.epoch > before.claim.epoch
        if before is not None:
            self._check(claim.order >= before.claim.order, "an older attempt claims")
            self._check(claim.epoch >= before.claim.epoch, "a claim is of an older epoch")
            for loan in before.loans:
                self._check(not self._loan_records(loan.number)[-1].is_open, f"loan {loan.number} is open at a claim")
        limit = self.shard.first if before is None else before.granted
        self._check(not claim.suspected or record.granted <= limit, "more is granted while suspects are left")
        done_before, tries_before = dict(self._visible), self._tries
        self._look(may_reopen=is_reopening)
        done = {index: status for index, (status, _) in self._visible.items()}
        if is_reopening:
            self._check(not any(done.values()), f"failures stay in a newer epoch: {done}")
            self._check(not self._tries, f"tries stay in a newer epoch: {self._tries}")
        else:
            self._check(done.keys() == done_before.keys(), "a claim of the same epoch changes what is done")
            self._check(self._tries == tries_before, "a claim of the same epoch changes the tries")
        self._expected[claim.writer.id] = self._expect(before, done_before, done, is_reopening=is_reopening)

    def _expect(
        self,
        before: ShardRecord | None,
        done_before: dict[int, tuple[int, int]],
        done: dict[int, int],
        *,
        is_reopening: bool,
    ) -> Expected:
        suspects: set[int] = set()
        may_suspect, charged = False, None
        if before is not None and before.closing is not Closing.DONE:
            # A crowd is suspect until the next claim only: what killed the node again was in hand.
            claimed = {index for first, end in before.claim.suspected for index in range(first, end)}
            suspects |= self._expected[before.claim.writer.id].suspects & claimed
            may_suspect = bool(claimed)
        if before is not None and before.closing is None:
            writer = before.claim.writer.id
            suspects |= self._handed_out[writer]
            may_suspect = True
            trying = self._expected[writer].charged if before.is_claim else before.trying
            charged = None if is_reopening else trying
        for loan in () if before is None else before.loans:
            if self._loan_records(loan.number)[-1].status is LoanStatus.ENDED:
                suspects |= self._handed_out[self.shard.number, loan.number]
                may_suspect = True
        suspects -= set(done_before)
        if is_reopening:
            suspects |= {index for index, (status, _) in done_before.items() if status == TryStatus.NODE_DIED}
        return Expected(
            done=done,
            suspects=frozenset(suspects),
            may_suspect=may_suspect,
            tries={index: count for index, count in self._tries.items() if index not in done},
            charged=charged if charged is not None and charged[0] not in done else None,
        )

    def _loan_records(self, number: int) -> list[LoanRecord]:
        log = loan_log(self._store, self.shard, number)
        return [LOAN_RECORD.validate_json(record.header) for record in log.read_all()]


def _holder(unit: Attempt | BorrowedWork) -> object:
    return unit.writer.id if isinstance(unit, Attempt) else (unit.shard.number, unit.loan.number)
