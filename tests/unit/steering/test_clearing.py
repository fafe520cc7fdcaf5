"""Each action clears the task instances that it needs, no others, and says why where it would not help."""

from __future__ import annotations

import pytest

from airflow_prs.errors import SteeringError
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.steering.clearing import ClearAction, clear_request, tasks_to_clear, what_it_does
from airflow_prs.steering.orders import change_limits
from airflow_prs.steering.steerable import read_steerable
from tests.makers import commit, do_shard, make_failed_try, make_failure, make_folder, make_outcome, open_attempt

RETRY, RESUME, PUBLISH = ClearAction
ENDS = [("score.gatekeeper", None), ("score.merge", None)]


@pytest.fixture
def folder(tmp_path):
    """Shard 0 is done with a failure, shard 1 without one, shard 2 was aborted with work left."""
    folder = make_folder(tmp_path, 2, 2, 2, error_threshold=1)
    do_shard(folder, 0, failed=[1])
    do_shard(folder, 1)
    commit(open_attempt(folder, 2), [make_outcome(4)], closing=Closing.ABORTED)
    return folder


def states(*shards, gatekeeper="failed", merge="upstream_failed"):
    mapped = dict(enumerate(shards)) if shards else {-1: None}
    return {"score.mini_batches": mapped, "score.gatekeeper": {-1: gatekeeper}, "score.merge": {-1: merge}}


def cleared(folder, action, *shards, **others):
    tasks = tasks_to_clear(read_steerable(folder), "score", action, states(*shards, **others))
    assert tasks[-2:] == ENDS
    assert {task_id for task_id, _ in tasks[:-2]} <= {"score.mini_batches"}
    return [index for _, index in tasks[:-2]]


def refusal(folder, action, *shards, **others):
    with pytest.raises(SteeringError) as caught:
        tasks_to_clear(read_steerable(folder), "score", action, states(*shards, **others))
    return str(caught.value)


def test_a_retry_clears_shards_with_failures_and_those_with_work_left(folder):
    assert cleared(folder, RETRY, "success", "success", "failed") == [0, 2]


def test_a_retry_leaves_shards_alone_that_run_or_are_going_to(folder):
    for state in ("running", "queued", "up_for_retry", "restarting", None):
        assert cleared(folder, RETRY, "success", "success", state) == [0]
    assert "have not ended yet: 0." in refusal(folder, RETRY, "running", "success", "failed")


def test_where_nothing_has_failed_there_is_nothing_to_retry(tmp_path):
    folder = make_folder(tmp_path, 2, 2)
    do_shard(folder, 0)
    said = refusal(folder, RETRY, "success", "failed")
    assert "no mini-batch has failed" in said
    assert "resume the run" in said


def test_a_resume_clears_shards_with_work_left_alone(folder):
    change_limits(folder, {"error_threshold": 2}, "ann")
    assert cleared(folder, RESUME, "success", "success", "failed") == [2]
    assert cleared(folder, RESUME, "success", "failed", "failed") == [1, 2]
    assert cleared(folder, RESUME, "success", "failed", "running") == [1]


def test_a_resume_that_would_be_aborted_again_says_what_to_change(folder):
    said = refusal(folder, RESUME, "success", "success", "failed")
    assert "2 of 12 items failed, error_threshold allows 1" in said
    assert "retry" in said


def test_failures_of_a_shard_that_is_cleared_do_not_stop_a_resume(tmp_path):
    folder = make_folder(tmp_path, 2, 2, error_threshold=0)
    do_shard(folder, 0)
    commit(open_attempt(folder, 1), [make_failure(2)], [make_failed_try(2)], closing=Closing.ABORTED)
    assert cleared(folder, RESUME, "success", "failed") == [1]


def test_a_run_that_goes_on_is_not_resumed(folder):
    said = refusal(folder, RESUME, "success", "success", "running")
    assert "the run goes on, so there is nothing to resume: shards 2 are running or wait to run" in said


def test_a_further_node_that_has_failed_is_cleared(folder):
    change_limits(folder, {"error_threshold": 2}, "ann")
    assert cleared(folder, RESUME, "success", "success", "failed", "failed", "success") == [2, 3]


def test_without_work_left_gatekeeper_and_merge_publish_once_the_limits_allow_it(folder):
    do_shard(folder, 2, try_number=2)
    said = refusal(folder, PUBLISH, "success", "success", "success")
    assert "a limit does not allow it: 2 of 12 items failed, error_threshold allows 1" in said
    change_limits(folder, {"error_threshold": 2}, "ann")
    assert cleared(folder, PUBLISH, "success", "success", "success") == []
    assert cleared(folder, RESUME, "success", "success", "success") == []


def test_missing_work_is_not_published(folder):
    assert "in shards 2: resume" in refusal(folder, PUBLISH, "success", "success", "failed")
    assert "goes on, so it cannot be published" in refusal(folder, PUBLISH, "success", "success", "queued")


def test_a_complete_run_needs_nothing(folder):
    do_shard(folder, 2, try_number=2)
    change_limits(folder, {"error_threshold": 2}, "ann")
    merge_run(folder)
    ends = {"gatekeeper": "success", "merge": "success"}
    for action in (RESUME, PUBLISH):
        assert "the run is complete" in refusal(folder, action, "success", "success", "success", **ends)
    assert cleared(folder, RETRY, "success", "success", "success", **ends) == [0]


def test_without_rows_only_plan_starts_over(tmp_path):
    folder = make_folder(tmp_path, 2, keep_rows=False)
    do_shard(folder, 0, failed=[1])
    merge_run(folder)
    assert "keep_rows=False" in refusal(folder, RETRY, "success")


def test_without_mapped_tasks_plan_is_to_be_cleared(folder):
    assert "Airflow has no task instances of shards" in refusal(folder, RETRY)
    assert "Airflow has no task instances of shards" in refusal(folder, RETRY, "removed")


def test_one_request_clears_all():
    tasks = [("score.mini_batches", 0), ("score.mini_batches", 2), *ENDS]
    request = clear_request("my dag/é", "run 1", tasks, is_dry=False)
    assert request.path == "api/v2/dags/my%20dag%2F%C3%A9/clearTaskInstances"
    assert request.body == {
        "dry_run": False,
        "dag_run_id": "run 1",
        "task_ids": [["score.mini_batches", 0], ["score.mini_batches", 2], "score.gatekeeper", "score.merge"],
        "only_failed": False,
        "include_downstream": True,
    }
    assert what_it_does(RETRY, tasks).startswith(
        "Clears 2 shards, gatekeeper, merge and what follows them: failed mini-batches"
    )
