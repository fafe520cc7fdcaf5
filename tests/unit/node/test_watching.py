"""A node looks for reasons to stop at a small cost."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.node.watching import OrphanedError, Watcher
from airflow_prs.records import Limits
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.store.memory import MemoryStore
from tests.makers import commit, make_failed_try, make_failure, make_folder, move, open_attempt

SHARDS = 100


@pytest.fixture
def requests():
    """The numbers of requests by operation."""
    return Counter()


@pytest.fixture
def folder(tmp_path, requests):
    folder = make_folder(tmp_path, *[1] * SHARDS)
    move(folder, MemoryStore(lambda operation, _: requests.update([operation])))
    requests.clear()
    return folder


STRICT = Limits(error_threshold=0)


def watcher(folder, attempt, *, limits=STRICT, is_orphaned=False):
    return Watcher(folder, folder.read_manifest(), attempt, limits=limits, is_orphaned=lambda: is_orphaned)


def fail(attempt, **values):
    index = attempt.shard.first
    commit(attempt, [make_failure(index)], [make_failed_try(index)], **values)


def test_a_look_costs_the_same_however_many_shards_there_are(folder, requests):
    watching = watcher(folder, open_attempt(folder))
    for _ in range(3):
        requests.clear()
        assert watching.look() is None
        # Its own shard, the run log, and four others.
        assert requests == {"get": 6}


def test_all_others_are_read_in_turn(folder):
    watching = watcher(folder, open_attempt(folder, 7))
    fail(open_attempt(folder, 6), closing=Closing.DONE)
    looks = 0
    while watching.look() is None:
        looks += 1
    assert looks == (SHARDS - 1 - 32) // 4


def test_its_own_failures_count_immediately(folder):
    attempt = open_attempt(folder)
    watching = watcher(folder, attempt)
    assert watching.look() is None
    fail(attempt)
    abort = watching.look()
    assert (abort.epoch, abort.verdict.threshold) == (Epoch(0, 0), "error_threshold")


def test_an_abort_of_another_node_binds_it_in_its_next_look(folder):
    first, last = open_attempt(folder, 0), open_attempt(folder, 50)
    watching = watcher(folder, first)
    fail(last)
    abort = watcher(folder, last).look()
    assert watching.look() == abort


def test_an_abort_of_an_older_epoch_does_not_bind_it(folder):
    old = open_attempt(folder, 1)
    fail(old)
    assert watcher(folder, old).look() is not None
    assert watcher(folder, open_attempt(folder, 0, clear_number=1)).look() is None


def test_failures_that_were_reopened_since_it_read_them_stop_nobody(folder):
    fail(open_attempt(folder, 1), closing=Closing.STOPPED)
    watching = watcher(folder, open_attempt(folder, 0))
    open_attempt(folder, 1, try_number=2, clear_number=1)
    assert watching.look() is None


def test_it_knows_the_states_of_all_shards(folder):
    attempt = open_attempt(folder, 3)
    watching = watcher(folder, attempt, limits=Limits())
    fail(open_attempt(folder, 5))
    fail(attempt)
    watching.look()
    assert [state.shard.number for state in watching.others] == [*range(3), *range(4, SHARDS)]
    assert sum(state.progress.failed for state in watching.states) == 1
    assert watching.states[0].progress.failed == 1


def test_it_stops_where_a_later_attempt_has_claimed_the_shard(folder):
    watching = watcher(folder, open_attempt(folder))
    open_attempt(folder, try_number=2)
    with pytest.raises(SupersededError, match="a later try of shard 0"):
        watching.look()


def test_a_commit_shows_that_nobody_has_claimed_the_shard(folder, requests):
    attempt = open_attempt(folder)
    watching = watcher(folder, attempt)
    commit(attempt)
    requests.clear()
    watching.look()
    # The run log and four others, but not its own shard.
    assert requests == {"get": 5}
    open_attempt(folder, try_number=2)
    with pytest.raises(SupersededError):
        watching.look()


def test_others_that_commit_at_its_own_pace_cost_two_requests(folder, requests):
    attempt, other = open_attempt(folder, 0), open_attempt(folder, 1)
    watching = watcher(folder, attempt)
    watching._others = iter([other.shard, other.shard, other.shard])
    watching._other_count = 1
    for commits in (3, 9):
        for _ in range(commits):
            commit(attempt)
            commit(other)
        requests.clear()
        watching._read(1)
        assert requests.total() == 2
        assert watching.others[0].number == other.number


def test_it_stops_where_airflow_is_gone(folder):
    with pytest.raises(OrphanedError):
        watcher(folder, open_attempt(folder), is_orphaned=True).look()


def test_a_run_of_one_shard_has_no_others(tmp_path):
    folder = make_folder(tmp_path, 2)
    watching = watcher(folder, open_attempt(folder))
    assert watching.look() is None
    assert watching.others == []
