"""Whoever looks at a run aborts it for those that the abort concerns, and for nobody else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from airflow_prs.records import Limits, Progress
from airflow_prs.run_folder.run_log import RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Closing, Epoch, Loan
from airflow_prs.store.memory import MemoryStore
from airflow_prs.thresholds.watch import CERTAIN_AFTER_S, Watch
from tests.makers import commit, make_failed_try, make_failure, make_folder, make_outcome, move, open_attempt

STRICT = Limits(error_threshold=0)
FIRST, SECOND, THIRD = Epoch(0, 0), Epoch(0, 1), Epoch(0, 2)


@dataclass
class Tasks:
    """What Airflow says of the shards."""

    running: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()


class Clock:
    """A clock that stands still until somebody moves it."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def requests():
    """What is called before each request to the store, and the numbers of requests so far by operation."""
    return Counter()


@pytest.fixture
def before():
    """Functions that are called before each request, with the operation and the key."""
    return []


@pytest.fixture
def folder(tmp_path, requests, before):
    """Three shards of two mini-batches in memory."""

    def call(operation, key):
        requests[operation] += 1
        for function in list(before):
            function(operation, key)

    folder = make_folder(tmp_path, 2, 2, 2)
    move(folder, MemoryStore(call))
    requests.clear()
    return folder


def watch(folder, epoch=FIRST, *, limits=STRICT, author="gatekeeper", clock=None):
    return Watch(folder, folder.read_manifest(), limits, author=author, epoch=epoch, clock=clock or Clock())


def fail(attempt, *, closing=None):
    """Let the first mini-batch of a shard fail that is not done."""
    index = attempt.shard.first
    commit(attempt, [make_failure(index)], [make_failed_try(index)], closing=closing)


def aborts(folder):
    """Return author and epoch of the aborts of a run."""
    log = folder.run_log()
    log.follow()
    return [(record.author, record.abort.epoch) for record in log.records if record.abort is not None]


def set_limits(folder, limits):
    folder.run_log().append(lambda: RunRecord(kind=RunRecordKind.LIMITS, author="plan", limits=limits))


# A look


def test_a_look_at_a_run_without_failures_aborts_nothing(folder):
    commit(open_attempt(folder), [make_outcome(0)])
    look = watch(folder).look()
    assert look.abort is None
    assert look.progress == Progress(total=6, handed_out=1, succeeded=1, items_total=12, items_succeeded=2, elements=2)


def test_the_first_to_see_a_threshold_exceeded_aborts_the_run(folder):
    fail(open_attempt(folder))
    first, second = watch(folder).look().abort, watch(folder, author="host-1-1").look().abort
    assert first == second
    assert (first.epoch, first.verdict.reason) == (FIRST, "2 of 12 items failed, error_threshold allows 0")
    assert aborts(folder) == [("gatekeeper", FIRST)]


def test_two_that_look_at_the_same_time_write_one_abort(folder, before):
    fail(open_attempt(folder))

    def look_first(operation, key):
        if operation == "create" and key.startswith("log/"):
            before.clear()
            watch(folder, author="host-1-1").look()

    before.append(look_first)
    assert watch(folder).look().abort is not None
    assert aborts(folder) == [("host-1-1", FIRST)]


def test_new_limits_apply_from_then_on(folder):
    fail(open_attempt(folder))
    set_limits(folder, Limits(error_threshold=2))
    seen = watch(folder)
    assert seen.look().abort is None
    set_limits(folder, Limits(error_threshold=1))
    assert seen.look().abort.verdict.limit == 1


def test_limits_that_change_just_before_the_abort_count(folder, before):
    fail(open_attempt(folder))

    def raise_the_limit(operation, key):
        if operation == "create":
            before.clear()
            set_limits(folder, Limits(error_threshold=2))

    before.append(raise_the_limit)
    assert watch(folder).look().abort is None
    assert aborts(folder) == []


def test_a_look_without_news_costs_a_request_for_each_shard_and_one_for_the_run_log(folder, requests):
    for number in range(3):
        commit(open_attempt(folder, number), [make_outcome(2 * number)])
    seen = watch(folder)
    seen.look()
    requests.clear()
    seen.look()
    assert requests == {"get": 4}


def test_an_open_loan_costs_one_more_request(folder, requests):
    lender, borrower = open_attempt(folder, 0), open_attempt(folder, 1)
    loan = Loan(number=0, first=1, end=2, borrower=borrower.writer)
    lender.commit([], [], progress=lender.inheritance.progress, granted=1, loans=[loan])
    lender.open_loan(loan)
    seen = watch(folder)
    seen.look()
    requests.clear()
    seen.look()
    assert requests == {"get": 5}


# What a clear does not clear: each of these killed or spared the wrong shards before there were epochs


def test_an_abort_of_one_cleared_shard_does_not_bind_what_is_cleared_later(folder):
    """An abort; shard 0 alone is cleared and fails again; then everything is cleared."""
    for number in (0, 1):
        fail(open_attempt(folder, number), closing=Closing.ABORTED)
    assert watch(folder).look().abort.epoch == FIRST
    fail(open_attempt(folder, 0, try_number=2, clear_number=1), closing=Closing.ABORTED)
    assert watch(folder, SECOND).look().abort.epoch == SECOND

    last = watch(folder, THIRD)
    assert last.look().abort is None
    open_attempt(folder, 1, try_number=2, clear_number=2)
    assert watch(folder, THIRD, author="host-1-2").look().abort is None
    open_attempt(folder, 0, try_number=3, clear_number=2)
    assert last.look().abort is None
    assert aborts(folder) == [("gatekeeper", FIRST), ("gatekeeper", SECOND)]


def test_whoever_judges_by_failures_that_were_reopened_since_looks_again(folder):
    """Shard 1 has read the failure of shard 0; shard 0 is cleared; then shard 1 judges."""
    fail(open_attempt(folder, 0), closing=Closing.STOPPED)
    running = open_attempt(folder, 1)
    node = watch(folder, author=running.writer.node)
    node.read(folder.read_manifest().shards)
    open_attempt(folder, 0, try_number=2, clear_number=1)
    assert node.find_abort().epoch == FIRST
    assert node.look().abort is None
    assert aborts(folder) == []


def test_an_abort_that_is_late_does_not_bind_the_shard_that_was_cleared_meanwhile(folder, before):
    """Shard 1 judges; shard 0 is cleared and claims; then the abort of shard 1 is written."""
    fail(open_attempt(folder, 0), closing=Closing.STOPPED)
    open_attempt(folder, 1)
    cleared = []

    def clear(operation, key):
        if operation == "create" and key.startswith("log/"):
            before.clear()
            cleared.append(open_attempt(folder, 0, try_number=2, clear_number=1))

    before.append(clear)
    assert watch(folder, author="host-1-1").look().abort.epoch == FIRST
    assert cleared[0].claim.epoch == SECOND
    assert watch(folder, SECOND, author="host-0-2").look().abort is None


def test_a_clear_that_leaves_max_tries_as_it_was_is_seen(folder):
    """Retries are lowered by as many as were used: max_tries is the same number after the clear."""
    fail(open_attempt(folder, max_tries=2), closing=Closing.ABORTED)
    assert watch(folder).look().abort is not None
    cleared = open_attempt(folder, try_number=2, clear_number=1, max_tries=2)
    assert cleared.inheritance.progress.failed == 0
    assert watch(folder, SECOND).look().abort is None


def test_a_clear_of_one_running_shard_leaves_the_thresholds_of_the_others_on(folder):
    open_attempt(folder, 0)
    others = [open_attempt(folder, 1), open_attempt(folder, 2)]
    open_attempt(folder, 0, try_number=2, clear_number=1)
    fail(others[0])
    abort = watch(folder, author=others[1].writer.node).look().abort
    assert (abort.epoch, abort.verdict.count) == (FIRST, 2)


def test_failures_of_a_cleared_shard_count_for_the_others_too(folder):
    others = [open_attempt(folder, 1), open_attempt(folder, 2)]
    fail(open_attempt(folder, 0, try_number=2, clear_number=1))
    abort = watch(folder, author=others[0].writer.node).look().abort
    assert abort.epoch == SECOND


def test_a_clear_of_a_running_task_is_no_retry(folder):
    """Clearing a running task leaves max_tries alone."""
    fail(open_attempt(folder, max_tries=3))
    retried = open_attempt(folder, try_number=2, max_tries=3)
    assert retried.inheritance.progress.failed == 1
    cleared = open_attempt(folder, try_number=3, max_tries=3, clear_number=1)
    assert cleared.inheritance.progress.failed == 0


# All shards but those that wait to run again


@pytest.fixture
def mixed(folder):
    """After a clear of shard 0 in mid-run: shard 1 has ended with a failure and was aborted, shard 2 is done."""
    fail(open_attempt(folder, 0), closing=Closing.STOPPED)
    fail(open_attempt(folder, 1), closing=Closing.ABORTED)
    commit(open_attempt(folder, 2), [make_outcome(4), make_outcome(5)], closing=Closing.DONE)
    watch(folder).look()
    return folder


@pytest.fixture
def clock():
    return Clock()


def test_shards_of_several_epochs_abort_the_newest_at_two_looks(mixed, clock):
    gatekeeper = watch(mixed, SECOND, clock=clock)
    tasks = Tasks(ended=frozenset({1, 2}))
    assert gatekeeper.look(tasks).abort is None
    assert gatekeeper.suspects_abort
    clock.now = CERTAIN_AFTER_S - 0.1
    assert gatekeeper.look(tasks).abort is None
    clock.now = CERTAIN_AFTER_S
    abort = gatekeeper.look(tasks).abort
    assert (abort.epoch, abort.verdict.count) == (SECOND, 2)


def test_looks_without_what_airflow_says_confirm_nothing(mixed, clock):
    gatekeeper = watch(mixed, SECOND, clock=clock)
    gatekeeper.look(Tasks(ended=frozenset({1, 2})))
    clock.now = 60
    assert gatekeeper.look().abort is None


def test_a_shard_that_waits_does_not_count_its_old_failures(mixed, clock):
    gatekeeper = watch(mixed, SECOND, clock=clock)
    for clock.now in (0, 20):
        assert gatekeeper.look(Tasks(ended=frozenset({2}))).abort is None
    assert not gatekeeper.suspects_abort


def test_a_shard_that_has_started_and_not_claimed_yet_does_not_count_its_old_failures(mixed, clock):
    gatekeeper = watch(mixed, SECOND, clock=clock)
    for clock.now in (0, 20):
        assert gatekeeper.look(Tasks(running=frozenset({0, 1}), ended=frozenset({2}))).abort is None


def test_a_shard_that_was_cleared_between_two_looks_begins_the_ten_seconds_again(mixed, clock):
    gatekeeper = watch(mixed, SECOND, clock=clock)
    everybody, cleared = Tasks(ended=frozenset({1, 2})), Tasks(ended=frozenset({2}))
    for clock.now, tasks in ((0, everybody), (6, cleared), (12, everybody)):
        assert gatekeeper.look(tasks).abort is None
    clock.now = 22
    assert gatekeeper.look(everybody).abort is not None


def test_shards_that_run_in_several_epochs_count_together(folder, clock):
    limits = Limits(error_threshold=2)
    fail(open_attempt(folder, 1))
    fail(open_attempt(folder, 0, try_number=2, clear_number=1))
    node = watch(folder, SECOND, limits=limits, author="host-0-2")
    assert watch(folder, limits=limits).look().abort.epoch == FIRST
    assert node.look().abort is None
    gatekeeper = watch(folder, SECOND, limits=limits, clock=clock)
    for clock.now in (0, CERTAIN_AFTER_S):
        look = gatekeeper.look(Tasks(running=frozenset({0, 1})))
    assert look.abort.epoch == SECOND
    assert node.look().abort == look.abort


# The end of a run


def test_once_no_shard_can_run_any_more_everything_counts(mixed):
    look = watch(mixed, THIRD).conclude(())
    assert (look.abort.epoch, look.abort.verdict.count) == (THIRD, 4)


def test_the_end_binds_shards_that_were_cleared_later_than_the_gatekeeper(mixed):
    open_attempt(mixed, 0, try_number=2, clear_number=2)
    look = watch(mixed, SECOND).conclude(())
    assert (look.abort.epoch, look.abort.verdict.count) == (THIRD, 2)


def test_a_run_that_is_aborted_is_not_aborted_again_at_its_end(mixed):
    assert watch(mixed, FIRST).conclude(()).abort.epoch == FIRST
    assert aborts(mixed) == [("gatekeeper", FIRST)]


def test_a_run_whose_failures_were_repaired_ends_without_an_abort(mixed):
    for number in (0, 1):
        attempt = open_attempt(mixed, number, try_number=2, clear_number=1)
        indices = range(attempt.shard.first, attempt.shard.end)
        commit(attempt, list(map(make_outcome, indices)), closing=Closing.DONE)
    look = watch(mixed, SECOND).conclude(())
    assert look.abort is None
    assert look.progress.succeeded == 6


def test_the_end_reads_on_from_what_is_known(mixed, requests):
    states = [mixed.read_shard(shard) for shard in mixed.read_manifest().shards]
    requests.clear()
    watch(mixed, SECOND, limits=Limits()).conclude(states)
    assert requests == {"get": 3 + 2, "reader": 1}  # the run log has an abort; the manifest
