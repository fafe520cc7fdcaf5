"""A shard in a store, its attempts and its borrowers. Its mini-batches are named by their place in the shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.records import FailedTry, Outcome, Progress, Shard
from airflow_prs.run_folder.attempts import Attempt, open_attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.loans import BorrowedWork, Request
from airflow_prs.run_folder.outcomes import Content
from airflow_prs.run_folder.rows_files import RowsFiles, RowsInPlace
from airflow_prs.run_folder.shard_log import ShardState, read_content, read_shard, shard_log
from airflow_prs.run_folder.shard_records import Closing, Loan, Writer
from airflow_prs.run_folder.tries import TriesIndex
from airflow_prs.store.port import Store
from tests.makers import ITEMS, count, make_failed_try, make_failure, make_outcome

FIRST = 100


@dataclass
class Rig:
    """
    A shard that attempts claim and borrowers work on.

    :param path: folder of the rows files.
    :param count: mini-batches of the shard.
    """

    store: Store
    path: Path
    count: int = 5
    shard: Shard = field(init=False)

    def __post_init__(self) -> None:
        items = self.count * ITEMS
        self.shard = Shard(number=3, first=FIRST, count=self.count, items=items, size_bytes=self.count)

    def rows(self, writer: Writer) -> RowsFiles:
        self.path.mkdir(exist_ok=True)
        return RowsInPlace(lambda process: self.path / f"{writer.id}-{process}")

    def open(
        self,
        try_number: int = 1,
        *,
        execution: int = 0,
        clear: int = 0,
        max_tries: int | None = None,
        window: int = 1000,
    ) -> Attempt:
        return open_attempt(
            self.store,
            self.shard,
            TaskTry(execution=execution, clear_number=clear, try_number=try_number, max_tries=max_tries),
            node=f"host-3-{try_number}",
            window=window,
            rows=self.rows,
        )

    def commit(
        self,
        attempt: Attempt | BorrowedWork,
        *outcomes: Outcome,
        tries: Sequence[FailedTry] = (),
        granted: int = 0,
        closing: Closing | None = None,
        **terms: Any,
    ) -> None:
        """Commit outcomes without rows; the counts are added to those of the last record."""
        progress = own_progress(self, attempt) + count(outcomes)
        progress = sum((state.progress for state in terms.get("taken_over", ())), progress)
        attempt.commit(outcomes, tries, progress=progress, granted=FIRST + granted, closing=closing, **terms)

    def ask(self, borrower: str = "b") -> Request:
        return Request(self.store, self.state, Writer(borrower, f"host-{borrower}", 9))

    def lend(self, attempt: Attempt, first: int, end: int, borrower: str = "b") -> BorrowedWork:
        request = self.ask(borrower)
        loan = self.name_loan(attempt, first, end)
        assert attempt.open_loan(loan)
        return self.accept(request)

    def name_loan(self, attempt: Attempt, first: int, end: int) -> Loan:
        """Commit the loan that the last request gets."""
        number, asked = attempt.read_requests()[-1]
        loan = Loan(number=number, first=FIRST + first, end=FIRST + end, borrower=asked.borrower)
        self.commit(attempt, granted=first, loans=[*(state.loan for state in attempt.state.loans), loan])
        return loan

    def accept(self, request: Request) -> BorrowedWork:
        answer = request.read_answer()
        assert answer is not None
        return request.accept(answer, self.rows(Writer("b", "host-b", 9)))

    @property
    def state(self) -> ShardState:
        return read_shard(self.store, self.shard)

    @property
    def content(self) -> Content:
        return read_content(self.store, self.state)

    @property
    def done(self) -> list[int]:
        """The mini-batches with an outcome."""
        return [index - FIRST for index in self.content.outcomes["index"].tolist()]

    @property
    def tries(self) -> list[FailedTry]:
        return list(TriesIndex(self.store, self.shard, self.content.tries))

    def keys(self, part: str) -> list[str]:
        return list(self.store.list(f"shards/00003/{part}/"))

    def key(self, number: int) -> str:
        return shard_log(self.store, self.shard).key(number)


def own_progress(rig: Rig, attempt: Attempt | BorrowedWork) -> Progress:
    """Return the counts of the last record of an attempt or a loan."""
    if isinstance(attempt, Attempt):
        record = attempt.state.record
        return Progress() if record is None else record.progress
    [state] = [state for state in rig.state.loans if state.loan.number == attempt.loan.number]
    return state.progress


def good(*places: int) -> list[Outcome]:
    """Return outcomes of mini-batches that succeeded."""
    return [make_outcome(FIRST + place) for place in places]


def bad(*places: int, **values: Any) -> list[Outcome]:
    """Return outcomes of mini-batches that failed."""
    return [make_failure(FIRST + place, **values) for place in places]


def a_try(place: int, **values: Any) -> FailedTry:
    return make_failed_try(FIRST + place, **values)
