"""Whatever the order in which lenders, borrowers, retries, clears, deaths and zombies act, each row counts once."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from airflow_prs.run_folder.attempt_records import Closing, Loan

from airflow_prs.errors import SupersededError
from airflow_prs.node.work.dispatcher import Dispatcher, Signals
from airflow_prs.node.work.failed_tries import Failure, RetryPolicy
from airflow_prs.node.work.queue import Assignment, WorkQueue
from airflow_prs.node.work.status import StatusBoard
from airflow_prs.records import MiniBatch, Outcome, Shard, TryStatus
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.loans import Request
from tests.makers import ITEMS, make_folder

COUNT = 7
BORROWERS = (1, 2)


@dataclass
class Actor:
    """A node at work on an attempt or on a loan; it goes on acting, as a zombie too, until it is killed."""

    attempt: Attempt
    dispatcher: Dispatcher
    queue: WorkQueue
    shard: Shard
    again: int = 0
    in_hand: dict[int, Assignment] = field(default_factory=dict)
    lender: Actor | None = None
    is_closed: bool = False
    is_dead: bool = False
    has_begun: bool = False

    @property
    def acts(self) -> bool:
        return not (self.is_closed or self.is_dead)


@dataclass
class Asking:
    request: Request
    lender: Actor
    is_over: bool = False


class Model:
    """Shard 0 and all who may have to do with it; but for processes and clocks everything is the real code."""

    def __init__(self, path: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.folder: RunFolder = make_folder(path, COUNT, *(1 for _ in BORROWERS))
        self.shards = self.folder.read_manifest().shards
        self.tries, self.max_tries = 0, 3
        self.nodes: list[Actor] = []
        self.loans: list[Actor] = []
        self.askings: list[Asking] = []
        self.counted: dict[int, bytes] = {}
        self.borrowers = [self.open(number, 1)[0] for number in BORROWERS]

    def close(self) -> None:
        for actor in (*self.nodes, *self.loans):
            actor.attempt.close()
        for attempt in self.borrowers:
            attempt.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    # How they act

    def open(self, number: int, try_number: int, again: int = 0) -> tuple[Attempt, Shard]:
        shard = self.shards[number]
        attempt = self.folder.open_attempt(
            shard,
            try_number=try_number,
            task_instance_id=f"task-{try_number}",
            max_tries=self.max_tries,
            node=f"host-{number}-{try_number}",
            window=1,
            again=again,
        )
        return attempt, shard

    def staff(self, attempt: Attempt, shard: Shard, granted: int, **values) -> Actor:
        inherited = attempt.inheritance
        done = inherited.done.copy()
        for index in inherited.suspects:
            done[index - shard.first] = True
        tries = {index: count for index, count in inherited.tries.items() if index not in inherited.suspects}
        queue = WorkQueue(self.folder, shard, done=done, tries=tries, granted=granted)
        wait([queue._ahead._made])
        board = StatusBoard(
            attempt.names.status, shard, COUNT, attempt.claim.node, done=inherited.done, failed=inherited.failed
        )
        dispatcher = Dispatcher(
            shard,
            attempt,
            queue,
            RetryPolicy(most_tries=2),
            board,
            signals=Signals(),
            is_blind=lambda: False,
            slots=1,
            log_of=lambda name: name,
            say=lambda text: None,
        )
        dispatcher.committer._window = 1
        return Actor(attempt=attempt, dispatcher=dispatcher, queue=queue, shard=shard, **values)

    def start(self, again: int = 0) -> Actor:
        before = self.nodes[-1] if self.nodes else None
        attempt, shard = self.open(0, self.tries, again)
        self.check_suspects(before, attempt)
        node = self.staff(attempt, shard, attempt.claim.granted, again=again)
        self.nodes.append(node)
        return node

    def check_suspects(self, before: Actor | None, attempt: Attempt) -> None:
        """Whatever the dead may have had in assignment is tried alone."""
        if before is None:
            return
        durable = {loan.name for loan in self.commits_of(before)}
        borrowers = [loan for loan in self.loans if loan.lender is before and loan.attempt.claim.attempt in durable]
        for actor in (before, *borrowers):
            if actor.is_closed:
                continue
            pending = {index for index in actor.in_hand if not attempt.inheritance.done[index]}
            assert pending <= set(attempt.inheritance.suspects)

    def commits_of(self, actor: Actor) -> tuple[Loan, ...]:
        last = actor.attempt._last_commit
        return last.loans if last is not None else ()

    def wait(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def commit(self, actor: Actor, closing: Closing | None = None) -> None:
        actor.dispatcher.committer._window = 1
        self.wait(actor.dispatcher.committer.commit(closing=closing))
        if closing is not None:
            actor.is_closed = True

    def take(self, actor: Actor) -> None:
        assignment = actor.dispatcher.next_assignment(slot=0, may_be_alone=True)
        if assignment is None:
            return
        index = assignment.mini_batch.index
        if self.counts(actor):
            assert index not in self.counted
            others = [other for other in (*self.nodes, *self.loans) if other is not actor and self.counts(other)]
            assert not any(index in other.in_hand for other in others if not other.is_closed)
        actor.in_hand[index] = assignment

    def counts(self, actor: Actor) -> bool:
        if actor.lender is not None:
            return actor.lender is self.nodes[-1]
        return actor is self.nodes[-1]

    def end_try(self, actor: Actor, assignment: Assignment, *, fails: bool) -> None:
        index = assignment.mini_batch.index
        actor.in_hand.pop(index, None)
        if fails:
            failure = Failure(
                assignment=assignment,
                status=TryStatus.RUN_EXCEPTION,
                error="no",
                process="process000",
                started=0.0,
                duration_s=0.0,
            )
            actor.dispatcher.take_failure(failure)
            return
        data = f"{index} by {actor.attempt.claim.attempt}\n".encode()
        with actor.attempt.names.rows(0).open("ab") as file:
            offset = file.tell()
            file.write(data)
        actor.dispatcher.take_outcome(
            Outcome(
                index=index,
                status=TryStatus.RUN_DONE,
                tries=assignment.try_number,
                items=ITEMS,
                succeeded=ITEMS,
                returned=ITEMS,
                offset=offset,
                length=len(data),
                crc=zlib.crc32(data),
            )
        )

    # What may happen next

    def walk(self, steps: int) -> None:
        """Let one thing after the other happen, of those that can; some are rarer than others."""
        for _ in range(steps):
            able = [(weight, act) for weight, act in self.possible()]
            weights = [weight for weight, _ in able]
            _, act = self.random.choices(able, weights)[0]
            act()
            self.each_row_counts_once_and_for_good()
        self.finish_the_shard()

    def possible(self) -> Iterator[tuple[float, Callable[[], None]]]:
        yield 0.15 if self.nodes else 10, self.start_a_try
        for node in self.nodes:
            if node.acts and not node.has_begun:
                yield 5, partial(self.begin, node)
            elif node.acts:
                yield from self.acts_of(node)
                yield from self.acts_of_lender(node)
        for loan in self.loans:
            if loan.acts:
                yield from self.acts_of(loan)
                yield 0.05, partial(self.commit, loan, Closing.STOPPED)
                if loan.dispatcher.done.is_set():
                    yield 3, partial(self.commit, loan, Closing.DONE)
        for asking in self.askings:
            if not asking.is_over:
                yield 1, partial(self.read_answer, asking)
                yield 0.1, partial(self.withdraw, asking)
        if self.nodes and sum(not asking.is_over for asking in self.askings) < len(BORROWERS):
            yield 1, self.ask

    def acts_of(self, actor: Actor) -> Iterator[tuple[float, Callable[[], None]]]:
        yield 2, partial(self.take, actor)
        yield 1, partial(self.commit, actor)
        yield 0.05, partial(self.kill, actor)
        for assignment in actor.in_hand.values():
            yield 1, partial(self.end_try, actor, assignment, fails=False)
            yield 0.3, partial(self.end_try, actor, assignment, fails=True)

    def acts_of_lender(self, node: Actor) -> Iterator[tuple[float, Callable[[], None]]]:
        yield 2, partial(self.look, node)
        if node.dispatcher.tally.done == COUNT:
            yield 1, partial(self.commit, node, Closing.DONE)
        if node.dispatcher.waits_for_loans:
            yield 0.5, partial(self.take_back, node)

    def start_a_try(self) -> None:
        self.tries += 1
        if self.nodes and self.random.random() < 0.3:
            self.max_tries += 4
            self.counted = {index: rows for index, rows in self.counted.items() if rows}
        self.start()

    def begin(self, node: Actor) -> None:
        """Suspects are tried alone, one by one; the node may die in the midst of it."""
        node.has_begun = True
        suspects = [self.mini_batch(index) for index in node.attempt.inheritance.suspects]
        node.is_dead = not self.wait(self.try_alone(node, suspects, self.random.choice([0, 1, 2, COUNT])))

    async def try_alone(self, node: Actor, suspects: list[MiniBatch], enough: int) -> bool:
        task = asyncio.ensure_future(node.dispatcher.try_alone(suspects))
        while not task.done():
            assignment = (
                node.dispatcher.next_assignment(slot=0, may_be_alone=True) if node.dispatcher._is_alone else None
            )
            if assignment is None:
                await asyncio.wait([task], timeout=0.0005)
            elif enough == 0:
                node.in_hand[assignment.mini_batch.index] = assignment
                task.cancel()
                await asyncio.wait([task])
                return False
            else:
                enough -= 1
                self.end_try(node, assignment, fails=False)
        await task
        return True

    def mini_batch(self, index: int) -> MiniBatch:
        return next(self.folder.read_mini_batches(index, index + 1))

    def ask(self) -> None:
        state = self.folder.read_shard(self.shards[0])
        if state.commit is None or state.commit.closing is None:
            lender = next(node for node in self.nodes if node.attempt.claim.attempt == state.claim.attempt)
            borrower = self.random.choice(self.borrowers)
            self.askings.append(Asking(self.folder.ask_for_loan(state, borrower), lender))

    def look(self, node: Actor) -> None:
        node.attempt.is_newest()
        states = node.attempt.read_loans(node.dispatcher.open_loans)
        for claim in node.attempt.read_requests():
            node.dispatcher.lend(claim)
        node.dispatcher.take_loans(states)

    def read_answer(self, asking: Asking) -> None:
        loan = asking.request.read_answer()
        asking.is_over = loan is not None
        if loan is not None and loan.count:
            attempt = asking.request.accept(loan)
            borrower = self.staff(attempt, attempt.shard, attempt.shard.first, lender=asking.lender)
            self.loans.append(borrower)
            self.commit(borrower)

    def withdraw(self, asking: Asking) -> None:
        asking.is_over = True
        asking.request.withdraw()

    def take_back(self, node: Actor) -> None:
        self.commit(node, Closing.STOPPED)
        if node is self.nodes[-1]:
            self.start(node.again + 1)
        elif node.attempt.claim.try_number < self.tries:
            with pytest.raises(SupersededError):
                self.open(0, node.attempt.claim.try_number, node.again + 1)

    def kill(self, actor: Actor) -> None:
        actor.is_dead = True
        if self.random.random() < 0.5:
            with actor.attempt.names.commits.open("ab") as log:
                log.write(b'{"outcomes": 7, "tries_by')

    # What holds at any time

    def each_row_counts_once_and_for_good(self):
        shard = self.shards[0]
        state, outcomes = self.folder.read_shard(shard), self.folder.read_outcomes(shard)
        progress, attempts = state.progress, self.folder.attempts(shard)
        assert progress.total == COUNT
        assert len(outcomes) == progress.done <= COUNT
        assert (outcomes["status"] == TryStatus.RUN_DONE).sum() == progress.succeeded
        now = {}
        for outcome in outcomes:
            rows = b""
            if outcome["length"]:
                start = int(outcome["offset"])
                data = attempts[outcome["attempt"]].rows(int(outcome["process"])).read_bytes()
                rows = data[start : start + int(outcome["length"])]
                assert rows.startswith(f"{outcome['index']} by ".encode())
                assert zlib.crc32(rows) == outcome["crc"]
            now[int(outcome["index"])] = rows
        assert {index: now.get(index) for index in self.counted} == self.counted
        self.counted = now

    def finish_the_shard(self) -> None:
        """Whatever has happened, one more try does what is left."""
        self.tries += 1
        node = self.start()
        suspects = [self.mini_batch(index) for index in node.attempt.inheritance.suspects]
        assert self.wait(self.try_alone(node, suspects, 2 * COUNT))
        for _ in range(5 * COUNT):
            self.take(node)
            for assignment in list(node.in_hand.values()):
                self.end_try(node, assignment, fails=False)
            self.commit(node)
        assert node.dispatcher.progress().done == COUNT
        self.commit(node, Closing.DONE)
        self.each_row_counts_once_and_for_good()
        assert sorted(self.counted) == list(range(COUNT))


@pytest.mark.parametrize("seed", range(40))
def test_each_row_counts_once_whoever_acts_in_whatever_order(tmp_path, seed):
    model = Model(tmp_path, seed)
    try:
        model.walk(60)
    finally:
        model.close()
