"""What counts of a shard is read from its log, whoever wrote it and in whatever order; damage is never passed over."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import Outcome, Progress, TryStatus
from airflow_prs.run_folder import checkpoints
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.loans import BorrowedWork, Request
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.outcomes import outcome_type
from airflow_prs.run_folder.shard_log import read_content, read_shard
from airflow_prs.run_folder.shard_records import Closing, Loan, Writer
from airflow_prs.store.memory import MemoryStore
from tests.makers import make_outcome
from tests.unit.run_folder.shard_rig import FIRST, Rig, a_try, bad, good


@pytest.fixture
def rig(store, tmp_path):
    return Rig(store, tmp_path / "rows")


def test_a_shard_that_nobody_began_has_no_outcomes(rig):
    state = rig.state
    assert (state.claim, state.epoch, state.number, state.granted) == (None, None, -1, FIRST)
    assert (state.is_running, state.is_done) == (False, False)
    assert state.progress == Progress(total=5, items_total=10)
    assert (rig.done, rig.tries) == ([], [])


def test_outcomes_are_sorted_by_index_whenever_they_were_committed(rig):
    attempt = rig.open()
    rig.commit(attempt, *good(4, 2))
    rig.commit(attempt, *good(3, 0))
    assert rig.done == [0, 2, 3, 4]


def test_an_outcome_is_read_back_as_it_was_committed(rig):
    outcome = make_outcome(FIRST + 3, tries=2, returned=9, process=4, offset=2**40, length=7, crc=2**32 - 1)
    attempt = rig.open()
    attempt.rows.path(4).touch()
    rig.commit(attempt, outcome)
    [read] = rig.content.outcomes
    names = [name for name in outcome_type().names if name != "writer"]
    assert {name: read[name] for name in names} == {name: getattr(outcome, name) for name in names}


def test_an_outcome_names_its_writer(rig):
    first = rig.open()
    rig.commit(first, *good(1))
    second = rig.open(2)
    rig.commit(second, *good(0))
    writers = [rig.state.writers[writer] for writer in rig.content.outcomes["writer"]]
    assert writers == [second.writer, first.writer]


def test_a_mini_batch_that_succeeds_after_a_clear_has_one_outcome(rig):
    rig.commit(rig.open(), *good(0, 1), *bad(2), closing=Closing.DONE)
    rig.commit(rig.open(2, clear=1), *good(2), closing=Closing.DONE)
    assert rig.content.outcomes["status"].tolist() == [TryStatus.RUN_DONE] * 3
    assert rig.done == [0, 1, 2]


@pytest.mark.parametrize("closing", [None, *Closing])
def test_how_an_attempt_ended_is_known(rig, closing):
    rig.commit(rig.open(), closing=closing)
    state = rig.state
    assert (state.closing, state.is_running, state.is_done) == (closing, closing is None, closing is Closing.DONE)


def test_reading_on_costs_one_request_if_nothing_is_new(tmp_path):
    asked = []
    rig = Rig(MemoryStore(lambda operation, key: asked.append(key)), tmp_path)
    attempt = rig.open()
    for _ in range(20):
        rig.commit(attempt)
    state = rig.state
    asked.clear()
    assert read_shard(rig.store, rig.shard, state) == state
    assert asked == [rig.key(21)]


# Damage


def damage(rig, key):
    data = bytearray(rig.store.get(key))
    data[len(data) // 2] ^= 1
    rig.store.put(key, bytes(data))


def write_checkpoint(rig):
    attempt = rig.open()
    for _ in range(9):
        rig.commit(attempt)
    rig.commit(attempt, *good(0, 1), tries=[a_try(2)], closing=Closing.STOPPED)


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_record_is_found(rig, number):
    attempt = rig.open()
    rig.commit(attempt, *good(0), *bad(1), tries=[a_try(1)])
    rig.commit(attempt, *good(2))
    damage(rig, rig.key(number))
    with pytest.raises(RunFolderError, match=f"{rig.key(number)} is damaged"):
        _ = rig.content


def test_a_record_that_lost_its_end_is_found(rig):
    rig.commit(rig.open(), *good(0, 1))
    rig.store.put(rig.key(1), rig.store.get(rig.key(1))[:-1])
    with pytest.raises(RunFolderError, match="damaged"):
        _ = rig.state


def test_a_missing_record_is_found(rig, monkeypatch):
    attempt = rig.open()
    for place in range(3):
        rig.commit(attempt, *good(place))
    state = rig.state
    rig.store.delete([rig.key(2)])
    monkeypatch.setitem(Log.__init__.__kwdefaults__, "sleep", lambda seconds: None)
    with pytest.raises(RunFolderError, match=f"{rig.key(2)} is missing"):
        read_content(rig.store, state)


def test_a_damaged_checkpoint_is_found(rig):
    write_checkpoint(rig)
    [key] = rig.keys("checkpoints")
    damage(rig, key)
    with pytest.raises(RunFolderError, match=f"{key} is damaged"):
        _ = rig.content


def test_a_missing_checkpoint_is_found(rig):
    write_checkpoint(rig)
    rig.store.delete(rig.keys("checkpoints"))
    with pytest.raises(RunFolderError, match="is missing"):
        rig.open(2)


# Whatever happens: the same as a naive reference


class Walk:
    """An attempt after the other, with borrowers and zombies. What should count is kept in the simplest way."""

    def __init__(self, path: Path, count: int) -> None:
        self.rig = Rig(MemoryStore(), path, count)
        self.outcomes: dict[int, tuple[Outcome, str]] = {}
        self.tries: list[tuple[int, int]] = []
        self.works: list[BorrowedWork] = []
        self.zombies: list[Attempt | BorrowedWork] = []
        self.known = self.rig.state
        self.try_number = self.clears = self.execution = 0
        self.attempt = self.open()

    def open(self) -> Attempt:
        self.try_number += 1
        return self.rig.open(self.try_number, execution=self.execution, clear=self.clears)

    def indices(self, work: BorrowedWork) -> range:
        return range(work.loan.first, work.loan.end)

    @property
    def own(self) -> set[int]:
        """What is not lent."""
        shard = self.rig.shard
        return {*range(shard.first, shard.end)}.difference(*map(self.indices, self.works))

    def failing(self, indices: Iterable[int]) -> list[int]:
        tried = {index for index, _ in self.tries}
        return [index for index in indices if index in tried and index not in self.outcomes]

    def progress(self, indices: Iterable[int], *, has_totals: bool = True) -> Progress:
        found = [self.outcomes[index][0] for index in indices if index in self.outcomes]
        succeeded = [outcome for outcome in found if not outcome.has_failed]
        return Progress(
            total=self.rig.shard.count if has_totals else 0,
            handed_out=len(found) + len(self.failing(indices)),
            succeeded=len(succeeded),
            failed=len(found) - len(succeeded),
            failing=len(self.failing(indices)),
            items_total=self.rig.shard.items if has_totals else 0,
            items_succeeded=sum(x.succeeded for x in found),
            items_failed=sum(x.items - x.succeeded for x in found),
            elements=sum(x.returned for x in succeeded),
        )

    # What may happen

    def write(self, who: int, places: list[int], kind: str) -> None:
        """Commit outcomes or failed tries of mini-batches that have no outcome."""
        work = self.works[who - 1] if 0 < who <= len(self.works) else None
        allowed = self.own if work is None else set(self.indices(work))
        left = sorted({FIRST + place for place in places} & allowed - set(self.outcomes))
        tries = [(index, 1 + sum(index == other for other, _ in self.tries)) for index in left if kind == "try"]
        places = [index - FIRST for index in left if kind != "try"]
        outcomes = good(*places) if kind == "good" else bad(*places)
        writer = (work or self.attempt).writer
        self.tries += tries
        self.outcomes |= {outcome.index: (outcome, writer.id) for outcome in outcomes}
        failed = [a_try(index - FIRST, try_number=number) for index, number in tries]
        if work is None:
            loans = [other.loan for other in self.works]
            self.attempt.commit(outcomes, failed, progress=self.progress(self.own), granted=FIRST, loans=loans)
        else:
            counts = self.progress(self.indices(work), has_totals=False)
            work.commit(outcomes, failed, progress=counts, granted=work.loan.end)

    def lend(self, place: int, count: int, kind: str) -> None:
        """Lend mini-batches, of which the borrower commits the first one."""
        first = FIRST + place
        stretch = range(first, min(first + count, self.rig.shard.end))
        if set(stretch) <= self.own - set(self.outcomes) - {index for index, _ in self.tries}:
            request = Request(self.rig.store, self.rig.state, Writer(f"borrower {len(self.tries)}", "host-b", 9))
            [(number, asked)] = self.attempt.read_requests()
            loan = Loan(number=number, first=first, end=stretch.stop, borrower=asked.borrower)
            loans = [*(work.loan for work in self.works), loan]
            self.attempt.commit([], [], progress=self.progress(self.own), granted=FIRST, loans=loans)
            assert self.attempt.open_loan(loan)
            self.works.append(self.rig.accept(request))
            self.write(len(self.works), [place], kind)

    def take_over(self, who: int, *, is_complete: bool) -> None:
        if who < len(self.works):
            if is_complete:
                self.write(who + 1, list(range(self.rig.count)), "good")
            work = self.works.pop(who)
            counts = self.progress(self.indices(work), has_totals=False)
            work.commit([], [], progress=counts, granted=work.loan.end, closing=Closing.DONE)
            [state] = [state for state in self.rig.state.loans if state.loan == work.loan]
            loans = [other.loan for other in self.works]
            progress = self.progress(self.own)
            self.attempt.commit([], [], progress=progress, granted=FIRST, loans=loans, taken_over=[state])

    def end(self, closing: Closing) -> None:
        loans = [work.loan for work in self.works]
        self.attempt.commit([], [], progress=self.progress(self.own), granted=FIRST, loans=loans, closing=closing)
        self.claim("retry")

    def claim(self, why: str) -> None:
        if why != "retry":
            self.outcomes = {index: found for index, found in self.outcomes.items() if not found[0].has_failed}
            self.tries = []
        if why == "execution":
            self.execution, self.try_number, self.clears = self.execution + 1, 0, 0
        self.clears += why == "clear"
        self.zombies += [self.attempt, *self.works]
        self.works = []
        self.attempt = self.open()
        done = self.attempt.inheritance.done.nonzero()[0] + FIRST
        failing = self.failing(self.own)
        assert done.tolist() == sorted(self.outcomes)
        assert self.attempt.inheritance.tries == {i: sum(i == other for other, _ in self.tries) for i in failing}

    def wake_zombie(self, who: int) -> None:
        if who < len(self.zombies):
            with pytest.raises((SupersededError, RunFolderError)):
                self.zombies[who].commit(good(0), [], progress=Progress(), granted=FIRST)

    # What holds at any time

    def check(self) -> None:
        self.known = read_shard(self.rig.store, self.rig.shard, self.known)
        content, writers = self.rig.content, self.known.writers
        found = {int(x["index"]): (int(x["status"]), writers[x["writer"]].id) for x in content.outcomes}
        assert self.known == self.rig.state
        assert list(found) == sorted(found)
        assert found == {index: (x.status, writer) for index, (x, writer) in self.outcomes.items()}
        assert sorted((failed.index, failed.try_number) for failed in self.rig.tries) == sorted(self.tries)
        assert self.known.progress == self.progress(range(FIRST, self.rig.shard.end))


PLACES = st.integers(0, 7)
KINDS = st.sampled_from(["good", "bad", "try"])
ACTS = st.one_of(
    st.tuples(st.just(Walk.write), st.integers(0, 2), st.lists(PLACES, max_size=3), KINDS),
    st.tuples(st.just(Walk.lend), PLACES, st.integers(1, 3), KINDS),
    st.tuples(st.just(partial(Walk.take_over, is_complete=True)), st.integers(0, 1)),
    st.tuples(st.just(partial(Walk.take_over, is_complete=False)), st.integers(0, 1)),
    st.tuples(st.just(Walk.end), st.sampled_from(Closing)),
    st.tuples(st.just(Walk.claim), st.sampled_from(["retry", "clear", "execution"])),
    st.tuples(st.just(Walk.wake_zombie), st.integers(0, 3)),
)


@settings(deadline=None, max_examples=200)
@given(acts=st.lists(ACTS, max_size=40))
def test_what_is_read_is_the_same_as_all_that_was_committed(tmp_path_factory, acts):
    path = tmp_path_factory.getbasetemp() / "no-rows"
    with mock.patch.multiple(checkpoints, _FEW_RECORDS=2, _RECORDS=4, _LARGE=6):
        walk = Walk(path, 8)
        for act, *arguments in acts:
            act(walk, *arguments)
            walk.check()
