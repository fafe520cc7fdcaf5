"""The desk of a node: hands mini-batches out, takes what comes of them, and knows when the shard is done."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_prs.node.processes.protocols import Failure
from airflow_prs.node.status import StatusBoard
from airflow_prs.node.work.committing import Committer
from airflow_prs.node.work.queue import Hand, WorkQueue
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, MiniBatch, Outcome, Progress, Shard, Status
from airflow_prs.run_folder.attempt_records import Claim, Closing, Loan
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.ledger import LoanState

_ITEMS_SHOWN = 10
_LONGEST_DELAY_S = 3600.0
_JITTER = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TryRules:
    """
    How often and when a mini-batch is tried.

    :param most_tries: run_max_try.
    :param delay_s: before the second try; twice as long before each further one.
    :param count_failed_tries: whether a failed try counts against thresholds at once.
    """

    most_tries: int
    delay_s: float = 0.0
    count_failed_tries: bool = False


class ShardDesk:
    """
    Between the queue of mini-batches and the slots of worker processes.

    :param board: what is shown to those who look from outside.
    :param slots: number of slots.
    :param concurrency: how many mini-batches each slot may work on at the same time.
    :param log_of: path of a process's log inside the run folder.
    :param say: puts a line into the task log.
    """

    def __init__(
        self,
        shard: Shard,
        attempt: Attempt,
        queue: WorkQueue,
        rules: TryRules,
        board: StatusBoard,
        *,
        slots: int,
        concurrency: int = 1,
        log_of: Callable[[str], str],
        say: Callable[[str], None],
    ) -> None:
        inherited = attempt.inheritance
        self.tally = Tally(inherited.progress, set(inherited.tries))
        self.committer = Committer(attempt, self.tally, queue, at_once=slots * concurrency)
        self.on_work: Callable[[], None] = lambda: None
        self.is_done = asyncio.Event()
        self.is_closed = False
        self.is_blind: Callable[[], bool] = lambda: False
        self.is_alone = bool(inherited.suspects)
        self.lent = Progress()
        self.committer.is_granting = not self.is_alone
        self._shard = shard
        self._attempt = attempt
        self._queue = queue
        self._rules = rules
        self._board = board
        self._slots = slots
        self._log_of = log_of
        self._say = say
        self._alone: Hand | None = None
        self._answer: asyncio.Future[Hand | None] | None = None

    # What slots ask for and bring

    def has_work_for(self, slot: int) -> bool:
        """Whether a slot needs a worker process."""
        if self.is_closed:
            return False
        return slot == 0 if self.is_alone else len(self._queue) > 0

    @property
    def has_work(self) -> bool:
        """Whether anything is left to hand out, now or later."""
        return not self.is_closed and (self.is_alone or len(self._queue) > 0)

    def next_hand(self, *, slot: int, may_be_alone: bool) -> Hand | None:
        """Take what a slot should do next; None: nothing now."""
        if self.is_closed or self.is_blind():
            return None
        if self.is_alone:
            hand, self._alone = (self._alone, None) if slot == 0 else (None, self._alone)
        else:
            hand = self._queue.take(may_be_alone=may_be_alone)
            if self._queue.left_of_grant < self.committer.grants_below:
                self.committer.grant()
        if hand is not None:
            self.tally.count_handed_out(hand.try_number)
        return hand

    def take_outcome(self, outcome: Outcome) -> None:
        """Take the outcome of a mini-batch that succeeded."""
        self._settle(outcome)

    def take_failure(self, failure: Failure) -> None:
        """Take a failed try: the next one is queued, or the mini-batch has failed for good."""
        hand, index = failure.hand, failure.hand.mini_batch.index
        is_final = failure.is_hopeless or hand.try_number >= self._rules.most_tries
        self.committer.add_try(self._recorded(failure, is_final=is_final))
        self._board.note(failure)
        tries = f"try {hand.try_number} of {self._rules.most_tries}"
        self._say(f"{failure.process}: {tries} of mini-batch {index} failed: {failure.error}")
        if is_final:
            self._settle(_failed_outcome(failure))
            self.committer.hurry()
            return
        self.tally.count_failed_try(index)
        if self._rules.count_failed_tries:
            self.committer.hurry()
        delay_s = max(failure.wait_s, self._delay_s(hand.try_number))
        if self._answer is not None:
            self._reply(replace(hand, try_number=hand.try_number + 1))
        else:
            self._queue.try_again(hand, delay_s)
            self.on_work()

    def give_back(self, hands: list[Hand]) -> None:
        """Take back what came to nothing through no fault of its own."""
        for hand in hands:
            self.tally.count_given_back(hand.try_number)
        if self.is_alone and hands:
            self._alone = hands[0]
        else:
            self._queue.put_back(hands)
        if hands:
            self.on_work()

    def fair_share(self) -> int:
        """Say how many mini-batches a process may hold so that the others get theirs."""
        return 1 if self.is_alone else -(-len(self._queue) // self._slots)

    def show(self) -> None:
        """Let those who look from outside see how far the shard is."""
        self._board.write(self.progress())

    def progress(self) -> Progress:
        """Read the shard's counts, with what those who took mini-batches over have committed."""
        return self.tally.progress() + self.lent

    @property
    def has_waited(self) -> bool:
        """Whether a try that had to wait may begin."""
        return self._queue.has_waited

    # What other nodes do of it

    @property
    def open_loans(self) -> list[Loan]:
        """List what is other nodes' business now."""
        return [loan for loan in self.committer.loans.values() if loan.is_open]

    @property
    def waits_for_loans(self) -> bool:
        """Whether all that is left is other nodes' business."""
        loans = self.open_loans
        return bool(loans) and self.tally.done + sum(loan.count for loan in loans) == self._shard.count

    def lend(self, request: Claim) -> Loan:
        """Answer a node that asks for mini-batches; the next commit tells it."""
        keeps_all = self.is_alone or self.is_closed or self.is_blind()
        first, end = (0, 0) if keeps_all else self._queue.give_up()
        loan = Loan(name=request.attempt, first=first, end=end, rows=request.rows)
        self.committer.loans[loan.name] = loan
        self.committer.hurry()
        return loan

    def take_loans(self, states: list[LoanState]) -> None:
        """Take how far open loans are; the counts of those that are through become the shard's own."""
        self.lent = Progress()
        for state in states:
            if state.closing is Closing.DONE:
                self.tally.base += state.progress
                self.committer.loans[state.loan.name] = replace(state.loan, committed_bytes=state.committed_bytes)
                self.committer.hurry()
            else:
                self.lent += state.progress
        self._note_done()

    # What a predecessor may have died of

    async def try_alone(self, suspects: list[MiniBatch]) -> None:
        """
        Try mini-batches that an attempt had in hand when it died, one at a time, each try committed before.

        :param suspects: in index order.
        """
        if self.is_alone:
            self._say(
                f"the attempt before this one died with up to {len(suspects)} mini-batches in hand; "
                "they are tried first, one at a time"
            )
            for mini_batch in suspects:
                await self._try_alone(mini_batch)
        self.is_alone, self._answer, self.committer.is_granting = False, None, True
        await self.committer.commit()
        self.on_work()

    async def _try_alone(self, mini_batch: MiniBatch) -> None:
        inherited = self._attempt.inheritance
        hand: Hand | None = Hand(mini_batch, inherited.tries.get(mini_batch.index, 0) + 1)
        if inherited.charged is not None and inherited.charged[0] == mini_batch.index:
            hand = await self._charge(Hand(mini_batch, inherited.charged[1]))
        while hand is not None:
            await self.committer.commit(trying=(mini_batch.index, hand.try_number))
            self._answer = asyncio.get_running_loop().create_future()
            self._alone = hand
            self.on_work()
            hand = await self._answer

    async def _charge(self, hand: Hand) -> Hand | None:
        """Count the try during which the node died; None: it was the last one."""
        self.tally.count_handed_out(hand.try_number)
        error = "the node died during this mini-batch: its machine, its container or its Airflow task was killed"
        self._answer = asyncio.get_running_loop().create_future()
        self.take_failure(
            Failure(hand=hand, status=Status.NODE_DIED, error=error, process="", started=time.time(), duration_s=0.0)
        )
        return await self._answer

    # What follows from it

    def _settle(self, outcome: Outcome) -> None:
        self.tally.count(outcome)
        self.committer.add(outcome)
        self._board.count(outcome)
        self._reply(None)
        self._note_done()

    def _note_done(self) -> None:
        if self.tally.done == self._shard.count:
            self.is_done.set()

    def _reply(self, hand: Hand | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(hand)

    def _delay_s(self, try_number: int) -> float:
        """Wait twice as long after each try, give or take a quarter, so that retries do not come all at once."""
        if not self._rules.delay_s:
            return 0.0
        delay_s = min(_LONGEST_DELAY_S, self._rules.delay_s * 2.0 ** (try_number - 1))
        return delay_s * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _recorded(self, failure: Failure, *, is_final: bool) -> FailedTry:
        mini_batch = failure.hand.mini_batch
        return FailedTry(
            index=mini_batch.index,
            try_number=failure.hand.try_number,
            final=is_final,
            status=failure.status,
            error=failure.error,
            traceback=failure.traceback,
            items=tuple(str(piece) for piece in mini_batch.pieces[:_ITEMS_SHOWN]),
            node=self._attempt.claim.node,
            process=failure.process,
            started=failure.started,
            duration_s=failure.duration_s,
            log=self._log_of(failure.process) if failure.process else "",
        )


def _failed_outcome(failure: Failure) -> Outcome:
    return Outcome(
        index=failure.hand.mini_batch.index,
        status=failure.status,
        tries=failure.hand.try_number,
        items=failure.hand.mini_batch.items,
        started=failure.started,
        duration_s=failure.duration_s,
        run_s=failure.run_s,
        cpu_s=failure.cpu_s,
    )
