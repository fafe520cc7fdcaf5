"""Which runs the gatekeeper waits for within its task."""

from __future__ import annotations

import pytest

from airflow_prs.airflow_side.shard_states import ShardTaskStates
from airflow_prs.records import Progress
from airflow_prs.sensors.short_runs import ShortRun

RUNNING = ShardTaskStates({"score.mini_batches_0": "running", "score.mini_batches_1": "success"})


@pytest.fixture
def at():
    """Return what a look after some seconds says, of a run with 100 mini-batches."""
    now = [0.0]
    run = ShortRun(lambda: now[0])

    def at(seconds, done, states=RUNNING):
        now[0] = seconds
        return run.may_end_soon(states, Progress(total=100, succeeded=done))

    return at


def test_a_run_that_has_just_begun_may_be_short(at):
    assert at(0, done=0)
    assert at(5, done=0)
    assert not at(10, done=0)


def test_the_pace_tells_whether_it_ends_within_ten_seconds(at):
    assert at(3, done=0)
    assert at(5, done=40)
    assert not at(6, done=42)


def test_the_first_mini_batches_tell_nothing_of_the_pace(at):
    assert at(3, done=0)
    assert at(3.5, done=1)
    assert at(4, done=1)
    assert not at(5, done=1)


def test_what_was_done_before_says_nothing_of_the_pace(at):
    assert at(0, done=90)
    assert at(1, done=90)
    assert at(2, done=92)
    assert not at(9, done=93)


@pytest.mark.parametrize("state", ["queued", "scheduled", "up_for_retry", None])
def test_it_holds_no_slot_that_a_shard_waits_for(at, state):
    assert not at(0, done=0, states=ShardTaskStates({"score.mini_batches_0": "running", "score.mini_batches_1": state}))


def test_a_shard_that_was_removed_waits_for_nothing(at):
    assert at(0, done=0, states=ShardTaskStates({"score.mini_batches_0": "running", "score.mini_batches_1": "removed"}))
