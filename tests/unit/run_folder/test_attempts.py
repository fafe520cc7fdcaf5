"""Attempts take over what counts, and nothing else; whoever was superseded commits nothing."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import Progress, Ruling, TryStatus, Verdict
from airflow_prs.run_folder import checkpoints
from airflow_prs.run_folder.checkpoints import read_checkpoint
from airflow_prs.run_folder.run_log import Abort, RunLog, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.store.memory import MemoryStore
from tests.makers import rows_of
from tests.unit.run_folder.shard_rig import FIRST, Rig, a_try, bad, good


@pytest.fixture
def rig(store, tmp_path):
    return Rig(store, tmp_path / "rows")


def done(attempt) -> list[int]:
    return attempt.inheritance.done.nonzero()[0].tolist()


def suspects(attempt) -> list[int]:
    return [index - FIRST for index in attempt.inheritance.suspects]


def test_the_first_attempt_begins_with_nothing_done(rig):
    attempt = rig.open()
    assert done(attempt) == []
    assert attempt.inheritance.progress == rig.state.progress == Progress(total=5, items_total=10)
    assert (attempt.inheritance.suspects, attempt.inheritance.charged) == ((), None)


def test_a_retry_takes_over_what_was_committed(rig):
    rig.commit(rig.open(), *good(3), *bad(1), tries=[a_try(1)])
    second = rig.open(2)
    assert done(second) == [1, 3]
    progress = second.inheritance.progress
    assert (progress.succeeded, progress.failed, progress.items_failed, progress.handed_out) == (1, 1, 2, 2)


def test_what_a_superseded_attempt_commits_does_not_count(rig):
    zombie = rig.open()
    rig.commit(zombie, *good(0))
    rig.open(2)
    assert not zombie.is_newest()
    with pytest.raises(SupersededError, match="a later try of shard 3 has begun"):
        rig.commit(zombie, *good(1))
    assert rig.done == [0]
    assert done(rig.open(3)) == [0]


def test_an_earlier_try_cannot_claim_what_a_later_one_has_claimed(rig):
    rig.open(10)
    with pytest.raises(SupersededError):
        rig.open(9)
    assert rig.state.claim.try_number == 10


def test_a_try_that_is_executed_twice_supersedes_itself(rig):
    first = rig.open(1)
    rig.commit(first, *good(2))
    assert done(rig.open(1)) == [2]
    with pytest.raises(SupersededError):
        rig.commit(first, *good(3))


def test_a_later_execution_of_plan_counts_its_tries_anew(rig):
    rig.open(7)
    rig.open(1, execution=4)
    with pytest.raises(SupersededError):
        rig.open(8)


def test_a_claim_that_comes_second_takes_over_what_came_first(tmp_path):
    acts = []
    store = MemoryStore(lambda operation, key: acts.pop()() if acts and operation == "create" else None)
    rig = Rig(store, tmp_path)
    first = rig.open(1)
    acts.append(lambda: rig.commit(first, *good(4)))
    assert done(rig.open(2)) == [4]


def test_failed_tries_are_taken_over_so_that_tries_are_not_counted_anew(rig):
    rig.commit(rig.open(), tries=[a_try(2, try_number=1, final=False), a_try(2, try_number=2, final=False)])
    second = rig.open(2)
    assert second.inheritance.tries == {FIRST + 2: 2}
    assert (second.inheritance.progress.failing, second.inheritance.progress.handed_out) == (1, 1)


# Epochs

CLEARS = {
    "a clear": {"clear": 1},
    "another execution of plan": {"execution": 1},
    "another max_tries, as in Airflow 3.1": {"max_tries": 9},
}


@pytest.mark.parametrize("cleared", CLEARS.values(), ids=CLEARS)
def test_a_newer_epoch_reopens_failed_mini_batches_and_no_others(rig, cleared):
    rig.commit(rig.open(max_tries=3), *good(0, 2, 3), *bad(1, 4), tries=[a_try(1), a_try(4)], closing=Closing.DONE)
    attempt = rig.open(2, **({"max_tries": 3} | cleared))
    assert done(attempt) == rig.done == [0, 2, 3]
    assert (attempt.inheritance.progress.failed, attempt.inheritance.tries, rig.tries) == (0, {}, [])
    assert rig.state.progress == attempt.inheritance.progress


@pytest.mark.parametrize("max_tries", [None, 3])
def test_a_retry_reopens_nothing(rig, max_tries):
    rig.commit(rig.open(max_tries=max_tries), *good(0), *bad(1, 4), tries=[a_try(1)])
    assert done(rig.open(2, max_tries=max_tries)) == [0, 1, 4]


def test_a_retry_after_a_clear_does_not_reopen_what_failed_since(rig):
    rig.commit(rig.open(), *bad(1, 4), closing=Closing.DONE)
    rig.commit(rig.open(2, clear=1), *bad(4))
    assert done(rig.open(3, clear=1)) == [4]


def test_an_epoch_never_goes_back(rig):
    rig.open(1, max_tries=3)
    rig.open(2, max_tries=9)
    assert rig.open(3, max_tries=9).claim.epoch == Epoch(0, 1)


def test_where_max_tries_shows_a_clear_no_abort_before_it_binds_the_attempt(rig):
    rig.open(1, max_tries=3)
    abort = Abort(verdict=Verdict(ruling=Ruling.ABORT), epoch=Epoch(0, 4))
    run_log = RunLog(rig.store)
    run_log.append(lambda: RunRecord(kind=RunRecordKind.ABORT, author="gatekeeper", abort=abort))
    assert run_log.binding(rig.open(2, max_tries=3).claim.epoch) == abort
    assert run_log.binding(rig.open(3, max_tries=9).claim.epoch) is None
    assert rig.open(1, execution=2, clear=5).claim.epoch == Epoch(2, 5)
    assert rig.open(2, execution=2, clear=0).claim.epoch == Epoch(2, 5)


# Dead nodes


def test_what_a_dead_attempt_may_have_had_in_hand_is_suspect(rig):
    assert rig.open(window=3).state.granted == FIRST + 3
    second = rig.open(2, window=3)
    assert suspects(second) == [0, 1, 2]
    assert second.state.granted == FIRST + 3, "nothing else is handed out before they are through"


def test_what_a_dead_attempt_finished_is_not_suspect(rig):
    rig.commit(rig.open(), *good(1), granted=3)
    assert suspects(rig.open(2)) == [0, 2]


@pytest.mark.parametrize("closing", list(Closing))
def test_an_attempt_that_ended_leaves_no_suspects(rig, closing):
    rig.commit(rig.open(), granted=3, closing=closing)
    second = rig.open(2, window=2)
    assert suspects(second) == []
    assert second.state.granted == FIRST + 2


def test_the_first_grant_skips_what_is_done(rig):
    rig.commit(rig.open(), *good(0, 2), closing=Closing.STOPPED)
    assert rig.open(2, window=2).state.granted == FIRST + 4


def test_a_mini_batch_that_was_tried_alone_when_its_node_died_is_charged(rig):
    rig.commit(rig.open(), granted=3, trying=(FIRST + 1, 2))
    assert rig.open(2).inheritance.charged == (FIRST + 1, 2)
    assert rig.open(3).inheritance.charged == (FIRST + 1, 2), "the second try died before it was charged"


def test_a_mini_batch_that_was_tried_alone_and_is_done_is_not_charged(rig):
    attempt = rig.open()
    rig.commit(attempt, granted=3, trying=(FIRST + 1, 2))
    rig.commit(attempt, *good(1), granted=3)
    assert rig.open(2).inheritance.charged is None


def test_a_mini_batch_that_killed_its_node_is_tried_alone_after_a_clear(rig):
    killers = bad(2, status=TryStatus.NODE_DIED)
    rig.commit(rig.open(), *good(0), *bad(1), *killers, closing=Closing.STOPPED)
    assert suspects(rig.open(2, clear=1)) == [2]


def test_of_too_many_suspects_a_group_is_granted_at_a_time(tmp_path):
    rig = Rig(MemoryStore(), tmp_path, count=1000)
    rig.commit(rig.open(), *good(0, 1), granted=900)
    second = rig.open(2, window=4)
    assert (suspects(second), second.inheritance.crowd) == ([], tuple(range(FIRST + 2, FIRST + 900)))
    assert second.state.granted == FIRST + 6
    assert suspects(rig.open(3)) == [2, 3, 4, 5], "only what the second attempt had in hand may have killed it"


def test_a_charged_mini_batch_stays_alone_beside_a_crowd(tmp_path):
    rig = Rig(MemoryStore(), tmp_path, count=1000)
    rig.commit(rig.open(), granted=900, trying=(FIRST + 7, 1))
    for number in (2, 3):
        inherited = rig.open(number, window=200).inheritance
        assert (inherited.suspects[-1:], inherited.charged) == ((FIRST + 7,), (FIRST + 7, 1))
        rig.commit(rig.open(number, window=200), granted=900, trying=(FIRST + 7, 1))


# Commits that fail


def test_rows_that_cannot_be_made_durable_count_nothing(rig):
    attempt = rig.open()
    with pytest.raises(FileNotFoundError):
        rig.commit(attempt, *[replace(outcome, process=7, length=1) for outcome in good(0)])
    assert rig.done == []


def test_rows_are_where_the_writer_of_an_outcome_says(rig):
    attempt = rig.open()
    attempt.rows.path(0).write_bytes(rows_of(1))
    [outcome] = good(1)
    rig.commit(attempt, replace(outcome, length=len(rows_of(1))))
    rig.open(2)
    [found] = rig.content.outcomes
    writer = rig.state.writers[found["writer"]]
    assert writer == attempt.writer
    assert rig.rows(writer).path(found["process"]).read_bytes() == rows_of(1)


def test_an_attempt_whose_commit_failed_commits_no_more(tmp_path):
    acts = []
    store = MemoryStore(lambda operation, key: acts.pop()() if acts and operation == "create" else None)
    rig = Rig(store, tmp_path)
    attempt = rig.open()

    def break_down():
        raise OSError("disk full")

    acts.append(break_down)
    with pytest.raises(OSError, match="disk full"):
        rig.commit(attempt, *good(1))
    with pytest.raises(RunFolderError, match="commits no more"):
        rig.commit(attempt, *good(2))
    assert rig.done == []


# Checkpoints


def test_a_checkpoint_is_written_after_64_records(rig):
    attempt = rig.open()
    for place in range(70):
        rig.commit(attempt, *good(*[place] if place < 5 else []), tries=[a_try(4)] if place == 3 else [])
    [key] = rig.keys("checkpoints")
    assert key == rig.state.record.checkpoint.key
    assert (rig.state.record.checkpoint.number, rig.state.number) == (63, 70)
    assert (rig.done, rig.tries) == ([0, 1, 2, 3, 4], [a_try(4)])
    assert done(rig.open(2)) == [0, 1, 2, 3, 4]


def test_a_checkpoint_does_not_read_what_its_attempt_has_committed(tmp_path):
    read = []
    rig = Rig(MemoryStore(lambda operation, key: read.append(key) if operation == "get" else None), tmp_path)
    first = rig.open()
    rig.commit(first, *good(0))
    rig.commit(first, *bad(1), tries=[a_try(1)])
    second = rig.open(2)
    read.clear()
    for place in (2, 3, 4):
        rig.commit(second, *good(place), tries=[a_try(place)])
    for _ in range(5):
        rig.commit(second)
    rig.commit(second, closing=Closing.STOPPED)
    assert read == [rig.key(number) for number in (3, 2, 1, 0)]
    assert (rig.done, rig.tries) == ([0, 1, 2, 3, 4], [a_try(place) for place in (1, 2, 3, 4)])


@pytest.mark.parametrize(("records", "checkpoints"), [(6, 0), (9, 1)])
def test_the_end_of_an_attempt_writes_a_checkpoint_unless_there_are_few_records(rig, records, checkpoints):
    attempt = rig.open()
    for _ in range(records):
        rig.commit(attempt)
    rig.commit(attempt, *good(4, 0), tries=[a_try(1)], closing=Closing.STOPPED)
    assert len(rig.keys("checkpoints")) == checkpoints
    assert (rig.done, rig.tries) == ([0, 4], [a_try(1)])


def test_after_a_clear_what_failed_counts_no_more_in_records_and_checkpoints(rig):
    attempt = rig.open()
    rig.commit(attempt, *good(0), *bad(1), tries=[a_try(1), a_try(2)])
    for _ in range(9):
        rig.commit(attempt)
    rig.commit(attempt, closing=Closing.STOPPED)
    rig.commit(rig.open(2), *bad(4), tries=[a_try(4)], closing=Closing.STOPPED)
    attempt = rig.open(3, clear=1)
    assert (rig.done, rig.tries) == ([0], [])
    rig.commit(attempt, *good(3), *bad(1), tries=[a_try(1)])
    assert (rig.done, rig.tries) == ([0, 1, 3], [a_try(1)])
    for _ in range(9):
        rig.commit(attempt)
    rig.commit(attempt, closing=Closing.STOPPED)
    assert (rig.done, rig.tries) == ([0, 1, 3], [a_try(1)])


@pytest.fixture
def sizes(store):
    """The sizes of the checkpoints that are written, in bytes."""
    written = []

    def create(key, data, create=store.create):
        if "/checkpoints/" in key:
            written.append(len(data))
        return create(key, data)

    with mock.patch.object(store, "create", create):
        yield written


def work_through(rig, *, at_once, records):
    """Commit some outcomes with each record."""
    with mock.patch.multiple(checkpoints, _RECORDS=4, _LARGE=256):
        attempt = rig.open()
        for first in range(0, records * at_once, at_once):
            rig.commit(attempt, *good(*range(first, first + at_once)))
        return rig.content


def chain(rig):
    """Return the checkpoints that readers read, the newest first."""
    checkpoint = rig.state.record.checkpoint
    while checkpoint is not None:
        yield checkpoint
        _, checkpoint = read_checkpoint(rig.store, checkpoint)


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_checkpoints_are_few_and_bounded_however_many_mini_batches_a_shard_has(store, tmp_path, sizes, at_once):
    rig = Rig(store, tmp_path / "rows", count=300 * at_once)
    content = work_through(rig, at_once=at_once, records=300)
    assert content.outcomes["index"].tolist() == list(range(FIRST, FIRST + 300 * at_once))
    outcome_bytes = content.outcomes.itemsize
    assert max(sizes) <= (256 + at_once) * outcome_bytes + 300
    # Each outcome is written again a few times, whatever their number is.
    assert sum(sizes) <= 10 * content.outcomes.nbytes + 300 * len(sizes)
    assert len([*chain(rig)]) <= 2 * rig.count / 256 + 8
