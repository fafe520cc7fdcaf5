"""When a run's shards are over."""

from __future__ import annotations

import pytest

from airflow_prs.airflow_side.shard_states import ShardTaskStates


def states(*values):
    return ShardTaskStates({f"step.mini_batches_{number}": state for number, state in enumerate(values)})


@pytest.mark.parametrize(
    "state", [None, "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"]
)
def test_a_shard_in_any_state_but_an_end_may_run_yet(state):
    assert states("success", state).can_any_run


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed"])
def test_ended_shards_cannot_run(state):
    assert not states("success", state).can_any_run


def test_a_removed_shard_does_not_count():
    assert not states("success", "removed").can_any_run


def test_shards_that_are_not_mapped_yet_may_run():
    assert ShardTaskStates({"step.mini_batches": None}).can_any_run
    assert ShardTaskStates({}).can_any_run


def test_only_a_running_shard_runs():
    assert states("queued", "running").is_any_running
    assert not states("queued", "up_for_retry", "restarting").is_any_running


def test_failed_shards_are_named_by_number():
    assert states("failed", "success", "upstream_failed").failed == [0, 2]


def test_a_task_that_was_never_mapped_names_no_shard():
    assert ShardTaskStates({"step.mini_batches": "upstream_failed"}).failed == []


def test_shards_that_run_or_have_ended_are_told_from_those_that_wait():
    mixed = states("running", "success", "failed", "queued", "up_for_retry", "restarting", None, "skipped", "removed")
    assert mixed.running == {0}
    assert mixed.ended == {1, 2, 7}
    assert mixed.succeeded == {1}
