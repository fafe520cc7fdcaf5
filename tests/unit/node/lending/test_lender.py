"""Mini-batches that are lent count once: when the borrower does them, gives them back, dies, or does not begin."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import wait
from pathlib import Path

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.stager import Stager
from airflow_prs.node.lending.lender import SILENT_S, Lender, LoanLostError
from airflow_prs.node.work.dispatcher import Dispatcher, Signals
from airflow_prs.node.work.failed_tries import RetryPolicy
from airflow_prs.node.work.queue import WorkQueue
from airflow_prs.node.work.status import StatusBoard
from airflow_prs.records import MiniBatch, Progress, Shard
from airflow_prs.run_folder.attempts import open_attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.loans import Request
from airflow_prs.run_folder.names import loan_status
from airflow_prs.run_folder.rows_files import RowsInPlace
from airflow_prs.run_folder.shard_log import read_content, read_shard
from airflow_prs.run_folder.shard_records import Closing, LoanStatus, Writer
from airflow_prs.store.memory import MemoryStore
from tests.makers import ITEMS, count, make_outcome

SHARD = Shard(number=0, first=0, count=9, items=9 * ITEMS, size_bytes=9)
BORROWER = Writer("b", "host-1-1", 1)


class Manifest:
    def read_mini_batches(self, first, end):
        return (MiniBatch(index=index, input="input", items=ITEMS, size_bytes=1) for index in range(first, end))


class Node:
    """The node of a shard, without processes; a look is what it does twice a second."""

    def __init__(self, store, path, try_number=1):
        self.store, self.now, self.said = store, 0.0, []
        self.rows = lambda writer: RowsInPlace(lambda process: path / f"{writer.id}-{process}")
        task_try = TaskTry(try_number=try_number)
        self.attempt = open_attempt(store, SHARD, task_try, node="host-0-1", window=2, rows=self.rows)
        inherited = self.attempt.inheritance
        folder = RunFolder(path)
        folder.store = store
        self.queue = WorkQueue(Manifest(), SHARD, done=inherited.done.copy(), tries={}, granted=2)
        wait([self.queue._ahead._made])
        self.dispatcher = Dispatcher(
            self.attempt,
            inherited,
            self.queue,
            RetryPolicy(most_tries=2),
            StatusBoard(folder, "status.json", SHARD, 9, "host-0-1", done=inherited.done, failed=inherited.failed),
            stager=Stager(Places(Path("/nowhere")), [], on_change=lambda: None),
            signals=Signals(),
            is_blind=lambda: False,
            slots=1,
            log_of=str,
            say=self.said.append,
        )
        self.lender = Lender(folder, self.attempt, self.dispatcher, self.said.append, clock=lambda: self.now)

    def look(self):
        asyncio.run(self.lender.serve())

    def commit(self, **terms):
        asyncio.run(self.dispatcher.committer.commit(**terms))

    def do_what_is_granted(self):
        """Do mini-batches, and return their indices."""
        done = []
        while (assignment := self.dispatcher.next_assignment(slot=0, may_be_alone=True)) is not None:
            done.append(assignment.mini_batch.index)
            self.dispatcher.take_outcome(make_outcome(done[-1]))
        return done

    def do_all(self):
        done = []
        while found := self.do_what_is_granted():
            done += found
            self.commit()
        return done

    @property
    def state(self):
        return read_shard(self.store, SHARD)

    def ask(self):
        return Request(self.store, self.state, BORROWER)

    def accept(self, request):
        return request.accept(request.read_answer(), self.rows(BORROWER))


@pytest.fixture
def node(tmp_path):
    return Node(MemoryStore(), tmp_path)


def do(work, *indices, closing=None):
    outcomes = [make_outcome(index) for index in indices]
    work.commit(outcomes, [], progress=count(outcomes), granted=work.loan.end, closing=closing)


def indices_of(node):
    return read_content(node.store, node.state).outcomes["index"].tolist()


def test_what_is_lent_is_in_the_log_before_the_borrower_begins(tmp_path):
    seen = []

    def note(operation, key):
        if operation == "create" and "/loans/" in key:
            seen.extend(state.loan for state in read_shard(store, SHARD).loans)

    store = MemoryStore(note)
    node = Node(store, tmp_path)
    request = node.ask()
    assert request.read_answer() is None
    node.look()
    assert [(loan.first, loan.end, loan.borrower) for loan in seen] == [(6, 9, BORROWER)]
    assert node.state.record.granted <= 6
    assert (request.read_answer().first, request.read_answer().end) == (6, 9)
    assert node.do_all() == [0, 1, 2, 3, 4, 5]


def test_what_a_borrower_has_done_counts_once(node):
    request = node.ask()
    node.look()
    work = node.accept(request)
    node.do_all()
    do(work, 6, 7, 8)
    node.look()
    assert (node.dispatcher.progress().done, node.state.progress.done) == (9, 9)
    assert not node.dispatcher.done.is_set()
    work.commit([], [], progress=Progress(handed_out=3, succeeded=3), granted=9, closing=Closing.DONE)
    node.look()
    node.look()
    assert node.dispatcher.done.is_set()
    node.commit(closing=Closing.DONE)
    state = node.state
    assert (state.loans, state.is_done, state.progress.done, state.progress.total) == ((), True, 9, 9)
    assert indices_of(node) == list(range(9))
    assert {writer.id for writer in state.writers} == {node.attempt.writer.id, "b"}


def test_what_a_borrower_shows_is_shown_by_the_lender_when_it_takes_the_work_over(node):
    request = node.ask()
    node.look()
    do(node.accept(request), 6, 7, 8, closing=Closing.DONE)
    shown = {"bins": {"first": 6, "done": [1, 1, 1], "failed": [0, 1, 0]}, "last_failures": []}
    node.store.put(loan_status(0, 0), json.dumps(shown).encode())
    node.look()
    node.dispatcher.show()
    bins = json.loads(node.store.get("status.json"))["bins"]
    assert (bins["done"], bins["failed"]) == ([0] * 6 + [1] * 3, [0] * 7 + [1, 0])


def test_a_request_that_was_withdrawn_costs_nothing(node):
    request = node.ask()
    assert request.withdraw().status is LoanStatus.WITHDRAWN
    node.look()
    assert node.dispatcher.open_loans == []
    assert node.do_all() == list(range(9))
    assert node.state.loans == ()


def test_a_lender_that_was_faster_than_a_withdrawal_has_lent(node):
    request = node.ask()
    node.look()
    assert request.withdraw().is_open


def test_what_lies_before_another_loan_cannot_come_back_and_is_taken_back_by_a_new_attempt(node):
    withdrawn, request = node.ask(), node.ask()
    withdrawn.withdraw()
    node.look()
    do(node.accept(request), *range(4, 6), closing=Closing.DONE)
    node.do_all()
    with pytest.raises(LoanLostError):
        node.look()
    node.commit(closing=Closing.STOPPED)
    again = Node(node.store, node.attempt.rows.path(0).parent)
    assert again.attempt.inheritance.suspects == ()
    assert (~again.attempt.inheritance.done).nonzero()[0].tolist() == [6, 7, 8]


def test_a_node_with_nothing_left_lends_nothing(node):
    node.commit()
    node.do_all()
    request = node.ask()
    node.look()
    answer = request.read_answer()
    assert (answer.is_open, answer.first, answer.end) == (False, 0, 0)


def test_a_request_to_an_earlier_claim_is_not_answered(node, tmp_path):
    request = node.ask()
    again = Node(node.store, tmp_path)
    again.look()
    assert request.read_answer() is None
    assert again.dispatcher.open_loans == []


def lend_and_finish(node):
    request = node.ask()
    node.look()
    work = node.accept(request)
    work.commit([make_outcome(6)], [], progress=Progress(handed_out=2, succeeded=1), granted=8)
    node.do_all()
    node.look()
    return work


def test_a_borrower_that_shows_no_sign_of_life_for_a_minute_is_taken_for_dead(node, tmp_path):
    work = lend_and_finish(node)
    node.now = SILENT_S
    node.look()
    node.now = SILENT_S + 1
    with pytest.raises(LoanLostError, match="1 nodes that had taken mini-batches over do no more"):
        node.look()
    node.commit(closing=Closing.STOPPED)
    again = Node(node.store, tmp_path)
    assert again.attempt.inheritance.suspects == (7,)
    assert (~again.attempt.inheritance.done).nonzero()[0].tolist() == [7, 8]
    assert not work.is_newest()
    with pytest.raises(SupersededError, match="taken back"):
        do(work, 7)
    assert indices_of(node) == list(range(7))


def test_a_borrower_is_alive_while_its_log_or_its_status_changes(node):
    work = lend_and_finish(node)
    for round_number in range(4):
        node.now += SILENT_S - 1
        if round_number % 2:
            node.store.put(loan_status(0, 0), json.dumps({"at": round_number}).encode())
        else:
            work.commit([], [], progress=Progress(handed_out=2, succeeded=1), granted=8)
        node.look()


def test_silence_counts_from_when_this_node_first_looked(node):
    node.now = 10_000.0
    lend_and_finish(node)
    node.now += SILENT_S / 2
    node.look()


def test_a_borrower_that_gives_back_what_it_has_not_done_leaves_no_suspects(node, tmp_path):
    work = lend_and_finish(node)
    work.commit([], [], progress=Progress(handed_out=1, succeeded=1), granted=8, closing=Closing.STOPPED)
    with pytest.raises(LoanLostError):
        node.look()
    node.commit(closing=Closing.STOPPED)
    again = Node(node.store, tmp_path)
    assert again.attempt.inheritance.suspects == ()
    assert (~again.attempt.inheritance.done).nonzero()[0].tolist() == [7, 8]


def test_a_new_attempt_ends_the_loans_of_the_one_before(node, tmp_path):
    work = lend_and_finish(node)
    again = Node(node.store, tmp_path, try_number=2)
    assert indices_of(node) == list(range(7))
    assert again.state.loans == ()
    with pytest.raises(SupersededError):
        do(work, 7)
    with pytest.raises(SupersededError):
        node.commit()


def test_nothing_is_lent_once_the_attempt_has_ended(node):
    request = node.ask()

    async def end_while_lending():
        found = node.attempt.read_requests()
        await node.dispatcher.committer.commit(closing=Closing.STOPPED)
        loan = node.dispatcher.lend(*found[0])
        await node.dispatcher.committer.commit()
        return node.attempt.open_loan(loan)

    assert asyncio.run(end_while_lending()) is False
    assert request.read_answer() is None
