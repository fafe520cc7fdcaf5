"""What a person orders is in the run's log, binds what it should, and is refused where it cannot have an effect."""

from __future__ import annotations

import pytest

from airflow_prs.errors import SteeringError
from airflow_prs.report.reports import write_reports
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.steering import orders
from airflow_prs.steering.orders import abort, change_limits, check_abort, check_limits
from airflow_prs.steering.steerable import read_steerable
from tests.makers import append_execution, commit, do_shard, make_folder, make_outcome, open_attempt

ANN = "ann@host"


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 2, 2, error_threshold=0, allowed_failed_percent=50)


def refusal(order, *arguments, **options):
    with pytest.raises(SteeringError) as caught:
        order(*arguments, **options)
    return str(caught.value)


def limits_of(folder):
    limits = folder.read_settings().config.limits
    return limits.error_threshold, limits.allowed_failed_count, limits.allowed_failed_percent


def binding_abort(folder):
    return orders.newest_abort(folder, folder.read_run_log(), folder.read_settings().config.node_count)


def changes_of(folder):
    return orders.changes(folder.read_run_log().records, folder.read_planned_settings().config.limits)


# Limits


def test_new_limits_leave_the_others_as_they_are(folder):
    assert change_limits(folder, {"error_threshold": 5}, ANN) == "error_threshold 0 -> 5"
    assert change_limits(folder, {"allowed_failed_count": 1}, "bob") == "allowed_failed_count none -> 1"
    assert limits_of(folder) == (5, 1, 50)


def test_a_check_can_be_switched_off(folder):
    assert change_limits(folder, {"allowed_failed_percent": None}, ANN) == "allowed_failed_percent 50 -> none"
    assert limits_of(folder) == (0, None, None)


def test_two_who_change_limits_at_the_same_time_both_succeed(folder, monkeypatch):
    def meanwhile(*arguments):
        monkeypatch.setattr(orders, "read_steerable", read_steerable)
        run = read_steerable(*arguments)
        change_limits(folder, {"allowed_failed_count": 7}, "bob")
        return run

    monkeypatch.setattr(orders, "read_steerable", meanwhile)
    change_limits(folder, {"error_threshold": 5}, ANN)
    assert limits_of(folder) == (5, 7, 50)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"error_threshold": -2}, "error_threshold is -2; allowed: an int of at least -1"),
        ({"error_threshold": None}, "error_threshold is None; allowed: an int"),
        ({"allowed_failed_percent": 101}, "allowed_failed_percent is 101; allowed: a number from 0 to 100"),
        ({"run_max_try": 5}, "run_max_try: no limit that can be changed; allowed: error_threshold, allowed_failed"),
        ({"error_threshold": 0}, "nothing changes: error_threshold is 0 already"),
    ],
)
def test_a_wrong_limit_is_refused_and_changes_nothing(folder, changes, problem):
    assert problem in refusal(change_limits, folder, changes, ANN)
    assert limits_of(folder) == (0, None, 50)


def test_limits_of_a_published_run_have_no_effect_until_a_shard_goes_on(folder):
    do_shard(folder, 0)
    do_shard(folder, 1)
    merge_run(folder)
    assert "has published its result" in refusal(change_limits, folder, {"error_threshold": 1}, ANN)
    assert "has published its result" in refusal(check_limits, read_steerable(folder))
    open_attempt(folder, 1, try_number=2, clear_number=1)
    assert change_limits(folder, {"error_threshold": 1}, ANN)


def test_reports_show_the_newest_limits(folder):
    change_limits(folder, {"error_threshold": 5}, ANN)
    report = write_reports(folder, folder.read_settings(), status="failed")
    assert report["thresholds"]["error_threshold"]["limit"] == 5


# Aborts


@pytest.mark.parametrize("kind", [AbortKind.CANCEL, AbortKind.DRAIN])
def test_it_binds_the_newest_epoch_with_claims(folder, kind):
    open_attempt(folder, 0)
    open_attempt(folder, 1, clear_number=2)
    record = abort(folder, kind, ANN)
    assert (record.author, record.abort.epoch, record.abort.kind) == (ANN, Epoch(0, 2), kind)
    assert binding_abort(folder) == record
    open_attempt(folder, 1, try_number=2, clear_number=3)
    assert binding_abort(folder) is None


def test_before_a_shard_has_begun_it_binds_the_epoch_of_the_gatekeeper(folder):
    folder.run_log().open_gatekeeper(TaskTry(try_number=1, clear_number=4))
    assert abort(folder, AbortKind.CANCEL, ANN).abort.epoch == Epoch(0, 4)


def test_who_knows_the_number_of_clears_binds_tasks_that_have_not_begun_since(folder):
    open_attempt(folder, 0)
    [execution] = [n for n, record in enumerate(folder.open_task_log().read()) if record.kind == "execution"]
    assert abort(folder, AbortKind.CANCEL, ANN, clear_number=3).abort.epoch == Epoch(execution, 3)


def test_where_nobody_has_begun_there_is_nothing_to_abort(folder):
    assert "no task has begun" in refusal(abort, folder, AbortKind.CANCEL, ANN)
    assert "no task has begun" in refusal(check_abort, read_steerable(folder), AbortKind.CANCEL)


def test_a_run_that_plan_continues_is_not_aborted_by_its_old_attempts(folder):
    open_attempt(folder, 0)
    execution = append_execution(folder)
    assert "no task has begun" in refusal(abort, folder, AbortKind.CANCEL, ANN)
    open_attempt(folder, 0, execution=execution)
    assert abort(folder, AbortKind.CANCEL, ANN).abort.epoch == Epoch(execution, 0)


def test_while_plan_runs_again_and_no_shard_runs_there_is_nothing_to_abort(folder):
    commit(open_attempt(folder, 0), closing=Closing.STOPPED)
    folder.open_task_log().claim_plan("plan-2")
    assert "plan has begun again" in refusal(abort, folder, AbortKind.DRAIN, ANN)


def test_an_aborted_run_is_not_aborted_again_but_a_drain_can_be_cancelled(folder):
    open_attempt(folder, 0)
    abort(folder, AbortKind.DRAIN, ANN)
    assert "already: drained by ann@host" in refusal(abort, folder, AbortKind.DRAIN, "bob")
    check_abort(read_steerable(folder), AbortKind.CANCEL)
    abort(folder, AbortKind.CANCEL, "bob")
    assert "already: cancelled by bob" in refusal(abort, folder, AbortKind.CANCEL, ANN)
    assert binding_abort(folder).abort.kind is AbortKind.CANCEL


def test_a_run_that_is_done_is_not_aborted(folder):
    do_shard(folder, 0)
    do_shard(folder, 1)
    assert "every mini-batch has an outcome" in refusal(abort, folder, AbortKind.CANCEL, ANN)


# Runs that nobody can steer


def test_a_run_without_a_plan_cannot_be_steered(tmp_path, folder):
    folder.store.delete(["manifest.parquet"])
    assert "not planned yet" in refusal(change_limits, folder, {"error_threshold": 1}, ANN)


def test_a_folder_that_plan_has_replaced_names_the_other(tmp_path, folder):
    other = make_folder(tmp_path, 1, plan="plan-2")
    assert f"the run folder is now {other.path}" in refusal(abort, folder, AbortKind.CANCEL, ANN)


def test_a_run_that_reuses_a_result_has_nothing_to_steer(tmp_path):
    folder = make_folder(tmp_path, settings={"reused_from": "/data/earlier"})
    assert "uses the result of /data/earlier" in refusal(abort, folder, AbortKind.CANCEL, ANN)


# What is shown


def test_changes_are_listed_with_their_authors_but_not_aborts_of_thresholds(folder):
    attempt = open_attempt(folder, 0)
    commit(attempt, [make_outcome(0)])
    change_limits(folder, {"error_threshold": 5, "allowed_failed_percent": 12.5}, ANN)
    abort(folder, AbortKind.DRAIN, "bob")
    found = [(change.author, change.what) for change in changes_of(folder)]
    assert found == [(ANN, "error_threshold 0 -> 5, allowed_failed_percent 50 -> 12.5"), ("bob", "drained")]
    assert all(change.at > 0 for change in changes_of(folder))
