"""Hands out the mini-batches of a shard, takes the results, and knows when the shard is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from airflow_prs.node.input.stager import Stager
from airflow_prs.node.work.bisecting import Bisection, can_split
from airflow_prs.node.work.committer import WINDOW, Committer
from airflow_prs.node.work.failed_tries import Failure, RetryPolicy, failed_outcome, failed_try, judge_end
from airflow_prs.node.work.meter import Meter
from airflow_prs.node.work.queue import Assignment, WorkQueue
from airflow_prs.node.work.staged_queue import StagedQueue
from airflow_prs.node.work.status import StatusBoard
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, MiniBatch, Outcome, Progress, TryStatus
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.inheritance import Inheritance
from airflow_prs.run_folder.intervals import ON_FILES
from airflow_prs.run_folder.loans import BorrowedWork
from airflow_prs.run_folder.shard_log import LoanState
from airflow_prs.run_folder.shard_records import Loan, LoanRequest


@dataclass(frozen=True, slots=True)
class Signals:
    """
    Events that the dispatchers of a node set, and that its supervisor waits for and clears.

    :param work: there may be mini-batches to hand out that were not there before.
    :param committed: a commit is durable.
    """

    work: asyncio.Event = field(default_factory=asyncio.Event)
    committed: asyncio.Event = field(default_factory=asyncio.Event)


class Dispatcher:
    """
    Hands out the mini-batches of an attempt or a loan.

    It knows neither the slots that ask it nor the supervisor.

    :param inherited: what the attempt took over; a loan begins with nothing.
    :param board: writes status.json.
    :param stager: makes local copies of input on object storage.
    :param signals: set when there may be something to hand out, and after a commit.
    :param is_blind: whether the node has not looked at the run folder for too long to hand out anything.
    :param slots: number of slots.
    :param concurrency: how many mini-batches each slot may work on at the same time.
    :param commit_s: seconds between two commits, at least.
    :param counts_failed_items: whether failed items count against a threshold now.
    :param meter: counts what is done here.
    :param log_of: returns the path of a process's log inside the run folder.
    :param say: writes a line to the task log.

    ``tally`` has the counts, ``committer`` makes them durable, ``done`` is set when every mini-batch has an outcome.
    """

    def __init__(
        self,
        attempt: Attempt | BorrowedWork,
        inherited: Inheritance,
        queue: WorkQueue,
        policy: RetryPolicy,
        board: StatusBoard,
        *,
        stager: Stager,
        signals: Signals,
        is_blind: Callable[[], bool],
        slots: int,
        concurrency: int = 1,
        commit_s: float = ON_FILES.commit_s,
        counts_failed_items: Callable[[], bool] = lambda: False,
        meter: Meter | None = None,
        log_of: Callable[[str], str],
        say: Callable[[str], None],
    ) -> None:
        self._is_alone = bool(inherited.suspects)
        self._meter = meter or Meter()
        self.tally = Tally(inherited.progress, set(inherited.tries))
        self.committer = Committer(
            attempt,
            self.tally,
            queue,
            concurrency=slots * concurrency,
            shortest_s=commit_s,
            is_granting=not self._is_alone,
            counts_failed_items=counts_failed_items,
            meter=self._meter,
            on_commit=self._after_commit,
        )
        self._shard = attempt.shard
        self._attempt = attempt
        self._inherited = inherited
        self._queue = queue
        self._staged = StagedQueue(queue, stager, most_arriving=WINDOW * slots * concurrency)
        self._policy = policy
        self._board = board
        self._signals = signals
        self._is_blind = is_blind
        self._slots = slots
        self._log_of = log_of
        self._say = say
        self.done = asyncio.Event()
        self.is_closed = False
        self._lent = Progress()
        self._alone: Assignment | None = None
        self._next_alone: asyncio.Future[Assignment | None] | None = None
        self._bisections: dict[int, Bisection] = {}
        self._note_done()

    # What slots use

    def has_work_for(self, slot: int) -> bool:
        """Whether there is something for a slot to do, now or later."""
        if self.is_closed:
            return False
        return slot == 0 if self._is_alone else len(self._staged) > 0

    def next_assignment(self, *, slot: int, may_be_alone: bool) -> Assignment | None:
        """
        Hand out the next mini-batch.

        :param may_be_alone: whether the process of the slot holds nothing else.
        :return: None: nothing now.
        """
        if self.is_closed or self._is_blind():
            return None
        while (assignment := self._take(slot, may_be_alone=may_be_alone)) is not None:
            self.tally.count_handed_out(assignment.try_number)
            if not assignment.staged.error:
                return assignment
            self.take_failure(_not_staged(assignment))
        return None

    def _take(self, slot: int, *, may_be_alone: bool) -> Assignment | None:
        if self._is_alone:
            staged = self._staged.stage(self._alone) if slot == 0 and self._alone is not None else None
            if staged is not None:
                self._alone = None
            return staged
        assignment = self._staged.take(may_be_alone=may_be_alone)
        self.committer.extend_grant_early()
        self._staged.stage_ahead()
        return assignment

    def fair_share(self, *, in_hand: int = 0) -> int:
        """
        Return how many mini-batches a process may hold so that the others get theirs.

        :param in_hand: how many of those that were handed out are shared, too.
        """
        return 1 if self._is_alone else -(-(len(self._staged) + in_hand) // self._slots)

    def take_success(self, assignment: Assignment, outcome: Outcome) -> None:
        """Record that run() succeeded with a mini-batch, or with a part of it."""
        self._meter.count_try(outcome.run_s, has_failed=False)
        if assignment.part is None:
            self.take_outcome(outcome)
        else:
            self._staged.release(outcome.index)
            self._bisections[outcome.index].take_success(outcome)
            self._go_on_splitting(outcome.index)

    def take_outcome(self, outcome: Outcome) -> None:
        """Record that a mini-batch succeeded or failed: it is not tried again."""
        self._staged.release(outcome.index)
        self.tally.count(outcome)
        self._meter.count_outcome(outcome)
        self.committer.add(outcome)
        self._board.count(outcome)
        self._resolve_alone(None)
        self._note_done()
        if not len(self._staged):
            # A process that has nothing left may begin with what another one has only loaded.
            self._signals.work.set()

    def take_failure(self, failure: Failure) -> None:
        """Record a failed try, and queue the next one, split the mini-batch or fail it."""
        self._meter.count_try(failure.run_s, has_failed=True)
        assignment, index = failure.assignment, failure.assignment.mini_batch.index
        if assignment.part is not None:
            self._take_failed_part(failure)
            return
        # The next try gets new copies: this one may have changed its own.
        self._staged.release(index)
        next_after_s = self._policy.next_try_after_s(failure)
        timeout_s = self._policy.bisect_timeout_s
        is_split = next_after_s is None and timeout_s is not None and can_split(failure)
        is_final = next_after_s is None and not is_split
        self.committer.add_try(self._record(failure, is_final=is_final))
        self._board.note(failure)
        tries = f"try {assignment.try_number}"
        if assignment.try_number <= self._policy.most_tries:
            tries += f" of {self._policy.most_tries}"
        process = f"{failure.process}: " if failure.process else ""
        self._say(f"{process}{tries} of mini-batch {index}{_place_of(assignment)} failed: {failure.error}")
        if is_split and timeout_s is not None:
            self.tally.count_failed_try(index)
            self._bisections[index] = Bisection(failure, timeout_s=timeout_s)
            self._go_on_splitting(index)
        elif next_after_s is None:
            self.take_outcome(failed_outcome(failure))
        else:
            self.tally.count_failed_try(index)
            if self._next_alone is not None:
                self._resolve_alone(replace(assignment, try_number=assignment.try_number + 1))
            else:
                self._queue.try_again(assignment, next_after_s)
                self._signals.work.set()
        if is_final or self._policy.count_failed_tries:
            # It may exceed a threshold.
            self.committer.hurry()

    def _record(self, failure: Failure, *, is_final: bool) -> FailedTry:
        log = self._log_of(failure.process) if failure.process else ""
        return failed_try(failure, is_final=is_final, node=self._attempt.writer.node, log=log)

    def _take_failed_part(self, failure: Failure) -> None:
        index = failure.assignment.mini_batch.index
        self._staged.release(index)
        self._bisections[index].take_failure(failure)
        self._go_on_splitting(index)

    def _go_on_splitting(self, index: int) -> None:
        """Hand out the next part of a mini-batch, or record the outcome."""
        following = self._bisections[index].next_assignment()
        if following is None:
            tries, outcome = self._bisections.pop(index).result(partial(self._record, is_final=True))
            # In one commit: an attempt that inherits tries without the outcome would count them as its own.
            for failed in tries:
                self.committer.add_try(failed)
            self._say(
                f"mini-batch {index} was split: {outcome.items - outcome.succeeded:,} of {outcome.items:,} items failed"
            )
            self.take_outcome(outcome)
            self.committer.hurry()
        elif self._next_alone is not None:
            self._resolve_alone(following)
        else:
            self._queue.put_back([following])
            self._signals.work.set()

    def take_end(self, running: Sequence[Failure], waiting: Sequence[Assignment], *, overdue: int | None) -> None:
        """
        Take the end of a worker process: record at most one failed try, and hand out the other mini-batches again.

        :param running: see judge_end, also for the other parameters.
        """
        failure, others = judge_end(running, waiting, overdue=overdue)
        self._take_back(others)
        if failure is not None:
            self.take_failure(failure)

    # What the supervisor uses

    def close(self) -> None:
        """Hand out nothing more."""
        self.is_closed = True
        self._staged.close()

    def stage_ahead(self) -> None:
        """Make local copies of what is next, as far as there is room."""
        if not self.is_closed:
            self._staged.stage_ahead()

    def show(
        self, working: Mapping[str, tuple[int, float]] | None = None, usage: Mapping[str, float] | None = None
    ) -> None:
        """
        Write status.json.

        :param working: see StatusBoard.write, also for the other parameter.
        """
        self._board.write(self.progress(), record=self._attempt.number, working=working, usage=usage)

    def progress(self) -> Progress:
        """Return the shard's counts, including what borrowers have committed."""
        return self.tally.progress() + self._lent

    @property
    def has_waited(self) -> bool:
        """Whether a retry has waited long enough, or mini-batches have been read that were asked for."""
        return self._queue.has_waited

    # What is lent to other nodes

    @property
    def open_loans(self) -> list[Loan]:
        """The loans that borrowers work on."""
        return list(self.committer.loans)

    @property
    def waits_for_loans(self) -> bool:
        """Whether borrowers have all that is left."""
        loans = self.open_loans
        return bool(loans) and self.tally.done + sum(loan.count for loan in loans) == self._shard.count

    def lend(self, number: int, request: LoanRequest) -> Loan | None:
        """
        Lend mini-batches to a node that asks for some; it may begin once a commit has named the loan.

        :param number: number of the request.
        :return: None: there is nothing to lend.
        """
        keeps_all = self._is_alone or self.is_closed or self._is_blind()
        first, end = (0, 0) if keeps_all else self._queue.give_up()
        if first == end:
            return None
        self._staged.forget(first, end)
        loan = Loan(number=number, first=first, end=end, borrower=request.borrower)
        self.committer.add_loan(loan)
        return loan

    def take_back(self, loan: Loan) -> None:
        """
        Hand out the mini-batches of a loan again that nobody has begun with.

        It stays open, as a loan without a borrower, if mini-batches before it are lent: the queue ends there.
        """
        if self._queue.take_back(loan.first, loan.end):
            self.committer.drop_loan(loan)
            self._signals.work.set()

    def take_loans(self, states: Sequence[tuple[LoanState, Mapping[str, Any] | None]]) -> None:
        """
        Record how far open loans are; those that are complete are taken over.

        :param states: each with the status.json that its borrower shows; None: it shows none.
        """
        self._lent = Progress()
        for state, shown in states:
            if state.is_complete:
                self.tally.add(state.progress)
                self.committer.take_over(state)
                if shown is not None:
                    self._board.add(shown)
            else:
                self._lent += state.progress
        self._note_done()

    # Suspects: what an earlier attempt may have died of

    async def try_alone(self, suspects: list[MiniBatch]) -> None:
        """
        Try the mini-batches that a dead attempt may have had in hand: one at a time, with a commit before each try.

        A crowd of them is handed out by the queue instead, a group at a time.

        :param suspects: in index order.
        """
        if (crowd := len(self._inherited.crowd)) > 0:
            self._say(
                f"the attempt before this one died with up to {crowd} mini-batches in hand; they are handed out first, "
                f"{2 * self._inherited.group} at a time, and tried one at a time only if the node dies again"
            )
        if self._is_alone:
            self._say(
                f"an attempt before this one died, perhaps of one of {len(suspects)} mini-batches; "
                "they are tried first, one at a time"
            )
            for mini_batch in suspects:
                await self._try_alone(mini_batch)
        self._is_alone, self._next_alone = False, None
        self.committer.start_granting()
        await self.committer.commit()

    async def _try_alone(self, mini_batch: MiniBatch) -> None:
        inherited = self._inherited
        assignment: Assignment | None = Assignment(mini_batch, inherited.tries.get(mini_batch.index, 0) + 1)
        if inherited.charged is not None and inherited.charged[0] == mini_batch.index:
            assignment = await self._charge(Assignment(mini_batch, inherited.charged[1]))
        while assignment is not None:
            await self.committer.commit(trying=(mini_batch.index, assignment.try_number))
            self._next_alone = asyncio.get_running_loop().create_future()
            self._alone = assignment
            self._signals.work.set()
            assignment = await self._next_alone

    async def _charge(self, assignment: Assignment) -> Assignment | None:
        """Record the try during which the node died; return the next try, None if there is none."""
        self.tally.count_handed_out(assignment.try_number)
        self._next_alone = asyncio.get_running_loop().create_future()
        error = "the node died during this mini-batch: its machine, its container or its Airflow task was killed"
        self.take_failure(
            Failure(
                assignment=assignment,
                status=TryStatus.NODE_DIED,
                error=error,
                process="",
                started=time.time(),
                duration_s=0.0,
            )
        )
        return await self._next_alone

    def _resolve_alone(self, following: Assignment | None) -> None:
        if self._next_alone is not None and not self._next_alone.done():
            self._next_alone.set_result(following)

    # What follows

    def _take_back(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            self.tally.count_given_back(assignment.try_number)
        if self._is_alone and assignments:
            self._alone = assignments[0]
        else:
            self._queue.put_back(assignments)
        self._signals.work.set()

    def _note_done(self) -> None:
        if self.tally.done == self._shard.count:
            self.done.set()

    def _after_commit(self) -> None:
        self._signals.committed.set()
        self._signals.work.set()


def _place_of(assignment: Assignment) -> str:
    """Return where the rows of a mini-batch begin; '' for files, of which there are many."""
    mini_batch = assignment.mini_batch
    return f" ({next(mini_batch.names_of(), '')})" if mini_batch.has_rows and mini_batch.pieces else ""


def _not_staged(assignment: Assignment) -> Failure:
    staged = assignment.staged
    return Failure(
        assignment=assignment,
        status=TryStatus.LOAD_EXCEPTION,
        error=staged.error,
        process="",
        started=staged.started,
        duration_s=staged.duration_s,
    )


class NodeWork:
    """
    The dispatchers of a node: its shard's own, then those of the loans that it works on.

    :param own: the shard's.
    """

    def __init__(self, own: Dispatcher) -> None:
        self.own = own
        self._borrowed: list[Dispatcher] = []

    def __iter__(self) -> Iterator[Dispatcher]:
        return iter((self.own, *self._borrowed))

    def add(self, dispatcher: Dispatcher) -> None:
        """Add the dispatcher of a loan."""
        self._borrowed.append(dispatcher)

    def remove(self, dispatcher: Dispatcher) -> None:
        """Remove the dispatcher of a loan."""
        self._borrowed.remove(dispatcher)

    def find_for(self, slot: int) -> Dispatcher | None:
        """Return the first dispatcher that has something for a slot to do; None: there is none."""
        return next((dispatcher for dispatcher in self if dispatcher.has_work_for(slot)), None)
