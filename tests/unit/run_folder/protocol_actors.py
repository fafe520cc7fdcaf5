"""The processes of a simulated run: nodes over the real attempts and loans; see protocol_world."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, Outcome, Progress, Shard, TryStatus
from airflow_prs.run_folder.attempts import Attempt, open_attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.loans import BorrowedWork, Request
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.shard_log import LoanState, read_shard
from airflow_prs.run_folder.shard_records import Closing, Loan, LoanStatus
from tests.unit.run_folder.protocol_checks import MOST_TRIES
from tests.unit.run_folder.protocol_world import FaultyStore, LostAnswerError, Process

if TYPE_CHECKING:
    from tests.unit.run_folder.protocol_run import Run

WINDOW = 2
PATIENCE = 4
"""How often a process looks for something that others are to do, before it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(TaskTry):
    """
    What Airflow tells a task when it starts.

    :param cleared_at: the step in which the task was cleared.
    """

    cleared_at: int = 0


class AbortedError(Exception):
    """An abort binds this node."""


class Work:
    """
    The mini-batches of an attempt or a loan, handed out one or two at a time.

    :param unit: commits them.
    :param pending: those that have not been handed out.
    """

    def __init__(
        self,
        run: Run,
        process: Process,
        unit: Attempt | BorrowedWork,
        *,
        pending: list[int],
        tally: Tally,
        granted: int,
    ) -> None:
        self._run = run
        self._process = process
        self.unit = unit
        self.pending = pending
        self.tally = tally
        self.granted = granted
        self.end = unit.shard.end
        self.crowd: tuple[int, ...] = ()
        self.again: list[int] = []
        self.tries: dict[int, int] = {}
        self.loans: list[Loan] = []
        self.taken_over: list[LoanState] = []
        self._outcomes: list[Outcome] = []
        self._failed: list[FailedTry] = []

    @property
    def left(self) -> list[int]:
        """What is neither done nor lent."""
        return sorted(self.again + [index for index in self.pending if index < self.end])

    @property
    def has_news(self) -> bool:
        """Whether a commit would change anything."""
        return bool(self._outcomes or self._failed or self.taken_over)

    def run_some(self) -> None:
        """Hand out what is granted, at most two, and run them."""
        ready = [*self.again, *(index for index in self.pending if index < min(self.granted, self.end))]
        chosen = ready[: 2 - self._run.choose(2)]
        for index in chosen:
            self.hand_out(index)
        self._run.pause(self._process, "work")
        for index in chosen:
            self.finish(index)

    def hand_out(self, index: int) -> None:
        """Begin with a mini-batch."""
        self._run.note_hand_out(self._process, self.unit, index)
        self.tally.count_handed_out(self.tries.get(index, 0) + 1)
        (self.again if index in self.again else self.pending).remove(index)

    def finish(self, index: int) -> bool:
        """Run a mini-batch; return whether it has an outcome."""
        row, has_failed = self._run.run_mini_batch(self._process, index, self.unit.writer)
        return self.fail(index, TryStatus.RUN_EXCEPTION, row) if has_failed else self._succeed(index, row)

    def _succeed(self, index: int, row: int) -> bool:
        tries = self.tries.get(index, 0) + 1
        self._add(
            Outcome(
                index=index,
                status=TryStatus.RUN_DONE,
                tries=tries,
                items=1,
                succeeded=1,
                returned=1,
                offset=row,
                length=1,
            )
        )
        return True

    def fail(self, index: int, status: TryStatus, row: int) -> bool:
        """Count a failed try; return whether it was the last one."""
        tries = self.tries[index] = self.tries.get(index, 0) + 1
        is_final = tries >= MOST_TRIES
        self._failed.append(FailedTry(index=index, try_number=tries, final=is_final, status=status, error="bad"))
        if is_final:
            self._add(Outcome(index=index, status=status, tries=tries, items=1, offset=row))
        else:
            self.tally.count_failed_try(index)
            self.again.append(index)
        return is_final

    def _add(self, outcome: Outcome) -> None:
        self.tally.count(outcome)
        self._outcomes.append(outcome)

    def commit(
        self, *, trying: tuple[int, int] | None = None, closing: Closing | None = None, is_granting: bool = True
    ) -> None:
        """Commit what was done, and grant more."""
        outcomes, failed, taken_over = self._outcomes, self._failed, self.taken_over
        self._outcomes, self._failed, self.taken_over = [], [], []
        granted = self._next_grant() if is_granting and closing is None else min(self.granted, self.end)
        progress = self.tally.progress()
        if isinstance(self.unit, Attempt):
            self.unit.commit(
                outcomes,
                failed,
                progress=progress,
                granted=granted,
                trying=trying,
                closing=closing,
                loans=self.loans,
                taken_over=taken_over,
            )
        else:
            self.unit.commit(outcomes, failed, progress=progress, granted=granted, closing=closing)
        self.granted = granted
        self._run.note_commit(self._process, self.unit, outcomes)

    def _next_grant(self) -> int:
        pending = [index for index in self.pending if index < self.end]
        window = WINDOW * (1 + 3 * self._run.choose(2))
        if set(pending[:window]) & set(self.crowd):
            window = WINDOW
        enough = pending[window] if len(pending) > window else self.end
        return max(min(self.granted, self.end), enough)


@dataclass
class Node:
    """
    One try of the task of a shard: works on the shard, then borrows from others.

    :param start: what Airflow has told it.
    """

    run: Run
    shard: Shard
    start: Start
    process: Process = field(init=False)
    store: FaultyStore = field(init=False)
    attempt: Attempt = field(init=False)

    def __call__(self, process: Process) -> str:
        """Work; return the state of the task."""
        self.process, self.store = process, self.run.store_of(process)
        try:
            while not self._work_on_own():
                pass
        except AbortedError:
            return "aborted"
        try:
            self._borrow()
        except (LostAnswerError, SupersededError, AbortedError) as error:
            # Its own shard is done, so its task succeeds.
            self.run.say(f"{process.name} borrows no more: {error}")
        return "success"

    def _work_on_own(self) -> bool:
        """Return whether the shard is done; if not, what was lent is to be taken back."""
        self.attempt = open_attempt(
            self.store,  # type: ignore[arg-type]
            self.shard,
            self.start,
            node=self.process.name,
            window=WINDOW,
            rows=self.run.rows_files,
        )
        inherited = self.attempt.inheritance
        self.run.note_claim(self.process, self.attempt)
        self.watch = self.run.watch(self.process, self.attempt.claim.epoch)
        pending = [self.shard.first + x for x, is_done in enumerate(inherited.done.tolist()) if not is_done]
        granted = self.attempt.state.granted
        tally = Tally(inherited.progress, set(inherited.tries))
        self.own = Work(self.run, self.process, self.attempt, pending=pending, tally=tally, granted=granted)
        self.own.tries.update(inherited.tries)
        self.own.crowd = inherited.crowd
        try:
            self._try_suspects()
            self._do_all()
        except AbortedError:
            self.own.commit(closing=Closing.ABORTED)
            raise
        except LostAnswerError:
            with suppress(RunFolderError):
                self.own.commit(closing=Closing.STOPPED)
            raise
        is_done = self.own.tally.done == self.shard.count
        self.own.commit(closing=Closing.DONE if is_done else Closing.STOPPED)
        return is_done

    def _try_suspects(self) -> None:
        inherited, own = self.attempt.inheritance, self.own
        for index in inherited.suspects:
            self._look_for_abort()
            is_done = False
            if inherited.charged is not None and inherited.charged[0] == index:
                own.tries[index] = inherited.charged[1] - 1
                own.tally.count_handed_out(inherited.charged[1])
                own.pending.remove(index)
                is_done = own.fail(index, TryStatus.NODE_DIED, self.run.new_row(index, own.unit.writer))
            while not is_done:
                own.commit(trying=(index, own.tries.get(index, 0) + 1), is_granting=False)
                own.hand_out(index)
                self.run.pause(self.process, "work")
                is_done = own.finish(index)
        own.commit()

    def _do_all(self) -> None:
        own, idle = self.own, 0
        while own.tally.done < self.shard.count:
            self._look_for_abort()
            self._lend()
            idle = 0 if self._take_loans() else idle + 1
            if own.left:
                idle = 0
                own.run_some()
            elif idle > 4 * PATIENCE or (idle and self.run.choose(20) == 19):
                return
            if own.left or own.has_news:
                own.commit()
            else:
                self.run.pause(self.process, "wait")

    def _look_for_abort(self) -> None:
        # A node judges when it has something new to count, and looks for the aborts of others otherwise.
        is_judging = self.own.tally.failed > self._judged
        self._judged = self.own.tally.failed
        abort = self.run.look(self.watch) if is_judging else self.watch.binding()
        self.run.note_look(self.start, self.watch, abort)
        if abort is not None:
            self.run.say(f"{self.process.name} is aborted by {abort.verdict.reason}")
            raise AbortedError

    # What it lends

    def _lend(self) -> None:
        own, lent = self.own, []
        for number, request in self.attempt.read_requests():
            first, end = self._give_up()
            if first == end:
                self.attempt.refuse_loan(number)
            else:
                lent.append(Loan(number=number, first=first, end=end, borrower=request.borrower))
                own.end = first
        if not lent:
            return
        own.loans += lent
        own.commit()
        for loan in lent:
            if not self.attempt.open_loan(loan) and loan.first == own.end:
                own.loans.remove(loan)
                own.end = loan.end

    def _give_up(self) -> tuple[int, int]:
        """Return consecutive mini-batches from the end of what was never tried."""
        left = [x for x in self.own.pending if x < self.own.end and x not in self.own.tries]
        if not left or set(left) & set(self.own.crowd):
            return 0, 0
        end = first = left[-1] + 1
        while first - 1 in left and end - first < max(1, len(left) // 2):
            first -= 1
        # Mini-batches behind them may wait for another try, and are not lent.
        return (first, end) if not any(x >= first for x in self.own.pending if x not in left) else (0, 0)

    def _take_loans(self) -> bool:
        """Count the loans that are complete; return whether any loan has got further."""
        own, has_moved = self.own, False
        states = [state for state in self.attempt.state.loans if state.loan in own.loans] if own.loans else []
        for state in states:
            has_moved |= state.number != self._loan_numbers.get(state.loan.number)
            self._loan_numbers[state.loan.number] = state.number
            is_closed = state.record is not None and state.record.status is LoanStatus.CLOSED
            if is_closed and state.progress.done == state.loan.count:
                own.loans.remove(state.loan)
                own.taken_over.append(state)
                own.tally.add(state.progress)
        return has_moved

    def __post_init__(self) -> None:
        self._loan_numbers: dict[int, int] = {}
        self._judged = 0

    # What it borrows

    def _borrow(self) -> None:
        for _ in range(PATIENCE):
            for shard in self.run.others(self.shard):
                state = read_shard(self.store, shard)  # type: ignore[arg-type]
                if state.is_running and state.not_handed_out and self.run.seems_alive(state):
                    self._ask(shard, Request(self.store, state, self.attempt.writer))  # type: ignore[arg-type]
            self._look_for_abort()
            self.run.pause(self.process, "wait")

    def _ask(self, shard: Shard, request: Request) -> None:
        answer, looks = None, 0
        while answer is None and looks < 4 * PATIENCE and self.run.choose(20) < 19:
            answer, looks = request.read_answer(), looks + 1
            self.run.pause(self.process, "wait")
        if answer is None:
            answer = request.withdraw()
            self.run.note_withdrawal(shard, request, answer)
        if answer.is_open:
            self._work_on_loan(request.accept(answer, self.attempt.rows))

    def _work_on_loan(self, unit: BorrowedWork) -> None:
        pending = list(range(unit.loan.first, unit.loan.end))
        work = Work(
            self.run, self.process, unit, pending=pending, tally=Tally(Progress(), set()), granted=unit.loan.first
        )
        work.commit()
        while work.left and self.run.choose(20) != 19:
            try:
                self._look_for_abort()
            except AbortedError:
                work.commit(closing=Closing.STOPPED)
                raise
            work.run_some()
            if work.left:
                work.commit()
        work.commit(closing=Closing.DONE)


@dataclass
class Gatekeeper:
    """One try of the gatekeeper."""

    run: Run
    start: Start

    def __call__(self, process: Process) -> str:
        """Look at the run a few times."""
        opened = RunLog(self.run.store_of(process)).open_gatekeeper(self.start)  # type: ignore[arg-type]
        watch = self.run.watch(process, opened.epoch)
        for _ in range(4 * PATIENCE):
            abort = self.run.look(watch)
            self.run.note_look(self.start, watch, abort)
            if abort is not None:
                return "aborted"
            self.run.pause(process, "wait")
        return "success"


@dataclass
class Person:
    """Aborts the run, or changes its limits."""

    run: Run
    make: object

    def __call__(self, process: Process) -> str:
        """Append to the run log."""
        record = RunLog(self.run.store_of(process)).append(self.make)  # type: ignore[arg-type]
        self.run.note_appended(record)
        return "success"
