"""What the gatekeeper does at each look, and what wakes it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_prs.airflow_side.exceptions import AirflowFailException, AirflowRescheduleException
from airflow_prs.errors import RunFolderError
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder import committed
from airflow_prs.run_folder import folder as folder_module
from airflow_prs.run_folder.intervals import ON_FILES
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.sensors import short_runs
from airflow_prs.sensors.gatekeeper import GatekeeperSensor
from airflow_prs.steering import orders
from airflow_prs.steering.orders import change_limits
from airflow_prs.thresholds import watch as watch_module
from airflow_prs.triggers import gatekeeper as trigger_module
from airflow_prs.triggers.gatekeeper import GatekeeperTrigger, Seen
from tests.makers import commit, do_shard, make_failure, make_folder, make_outcome, open_attempt, rows_of

ENDED = {"score.mini_batches_0": "success", "score.mini_batches_1": "success"}


@dataclass
class Instance:
    """A task instance of the gatekeeper."""

    folder: str
    dag_id: str = "digits"
    run_id: str = "run 1"
    try_number: int = 1
    max_tries: int = 2
    execution: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    pushed: dict[str, object] = field(default_factory=dict)

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids, key, map_indexes=None, include_prior_dates=False):
        if key == "plan":
            plan = {"folder": self.folder, "execution": self.execution, "mini_batches": 4, "items": 8, "shards": 2}
            return plan if self.folder else None
        if key == "error":
            return [self.errors.get(index) for index in map_indexes]
        folder = Path(self.folder).name
        return [{"folder": folder, "shard": shard, "record": record} for shard, record in self.positions.items()]


@pytest.fixture
def states(monkeypatch):
    """What Airflow says of the shards; tests change it."""
    states = dict(ENDED)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run 1": states})
    return states


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let it wait for no short run; a test may set other seconds."""

    def set_seconds(seconds):
        monkeypatch.setattr(short_runs, "LONGEST_S", seconds)

    set_seconds(0)
    return set_seconds


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 2, 2, error_threshold=0)


@pytest.fixture
def gatekeeper():
    with DAG("digits", schedule=None):
        return GatekeeperSensor(task_id="gatekeeper", plan_task_id="score.plan", shards_task_id="score.mini_batches")


@pytest.fixture
def supervised(monkeypatch):
    """As under a scheduler."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object.__new__(CommsDecoder), raising=False)


def context_of(reschedules=0, clear_number=0, **instance):
    run = SimpleNamespace(clear_number=clear_number, dag_id="digits", logical_date=None)
    return {"ti": Instance(**instance), "dag_run": run, "task_reschedule_count": reschedules}


@pytest.fixture
def look(gatekeeper, folder, states):
    """Let the gatekeeper look once."""

    def look(method="execute", *arguments, **context):
        context = context_of(**{"folder": str(folder.path), **context})
        if method == "resume_execution":
            return gatekeeper.resume_execution(*arguments, context)
        return getattr(gatekeeper, method)(context, *arguments)

    return look


def abort_of(folder):
    """Return the only abort of a run, with its author."""
    log = folder.run_log()
    log.follow()
    [record] = [record for record in log.records if record.abort is not None]
    return record


def test_it_succeeds_once_every_mini_batch_has_an_outcome(look, folder):
    do_shard(folder, 0)
    do_shard(folder, 1)
    assert look()["succeeded"] == 4


def test_it_succeeds_at_once_where_there_are_no_shards(gatekeeper, tmp_path, states):
    empty = make_folder(tmp_path / "reused")
    states.clear()
    states["score.mini_batches"] = None
    assert gatekeeper.execute(context_of(folder=str(empty.path)))["total"] == 0


@pytest.mark.parametrize("state", ["running", "queued"])
def test_without_a_supervisor_it_looks_less_and_less_often_but_twice_a_minute(look, states, state):
    states["score.mini_batches_1"] = state
    waits = []
    for reschedules in (0, 5, 500):
        with pytest.raises(AirflowRescheduleException) as caught:
            look(reschedules=reschedules)
        waits.append((caught.value.reschedule_date - datetime.now(timezone.utc)).total_seconds())
    assert waits == pytest.approx([0, 5, 30], abs=0.5)


def test_without_a_triggerer_it_waits_until_its_last_execution_is_forgotten(look, states, supervised):
    states["score.mini_batches_1"] = "queued"
    with pytest.raises(AirflowRescheduleException) as caught:
        look("resume_execution", "__fail__", {"error": "Trigger timeout"})
    assert caught.value.reschedule_date - datetime.now(timezone.utc) > timedelta(seconds=9)


def deferral(look, *arguments, **instance):
    with pytest.raises(BaseException, match=r"^$") as caught:
        look(*arguments, **instance)
    assert type(caught.value).__name__ == "TaskDeferred"  # Airflow's versions keep it in different modules
    return caught.value


def test_it_defers_while_a_shard_runs(look, states, supervised):
    states["score.mini_batches_1"] = "running"
    deferred = deferral(look)
    assert isinstance(deferred.trigger, GatekeeperTrigger)
    assert (deferred.method_name, deferred.timeout) == ("resume", timedelta(minutes=5))


def test_it_sees_the_end_of_a_short_run_without_deferring(look, folder, monkeypatch, supervised, patience):
    patience(60)
    looks = []

    def get_task_states(**_):
        do_shard(folder, len(looks)) if len(looks) < 2 else None
        looks.append("a look")
        return {"run 1": dict.fromkeys(ENDED, "running") if len(looks) < 3 else ENDED}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    assert look()["succeeded"] == 4


def test_it_defers_again_after_a_deferral(look, states, supervised, patience):
    patience(60)
    states["score.mini_batches_1"] = "running"
    assert deferral(look, "resume", {"seen": Seen.TIME_IS_UP.value, "message": ""})


@pytest.mark.parametrize("state", ["queued", "up_for_retry", None])
def test_it_keeps_no_slot_of_a_pool_from_shards_that_wait(look, states, supervised, state):
    states["score.mini_batches_1"] = state
    with pytest.raises(AirflowRescheduleException):
        look("resume", {"seen": Seen.IDLE.value, "message": ""})
    states["score.mini_batches_1"] = "running"
    assert deferral(look)


def test_it_reschedules_from_the_start_if_it_must_not_defer(gatekeeper, look, states, supervised):
    states["score.mini_batches_1"] = "running"
    gatekeeper.deferrable = False
    with pytest.raises(AirflowRescheduleException):
        look()


def test_it_defers_again_when_its_time_is_up(look, states, supervised):
    states["score.mini_batches_1"] = "running"
    assert deferral(look, "resume", {"seen": Seen.TIME_IS_UP.value, "message": ""})


BROKEN = {
    "no triggerer answers": ("__fail__", {"error": "Trigger timeout"}),
    "the trigger breaks": ("__fail__", {"error": "Trigger failure"}),
    "the triggerer cannot see the run folder": ("resume", {"event": {"seen": Seen.NOTHING.value, "message": "gone"}}),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_it_reschedules_from_then_on_where(look, states, supervised, answer):
    states["score.mini_batches_1"] = "running"
    with pytest.raises(AirflowRescheduleException):
        look("resume_execution", *answer)
    with pytest.raises(AirflowRescheduleException):
        look()


def test_a_retry_tries_a_trigger_again(look, states, supervised):
    states["score.mini_batches_1"] = "running"
    with pytest.raises(AirflowRescheduleException):
        look("resume_execution", "__fail__", {"error": "Trigger timeout"})
    assert deferral(look, try_number=2)


def test_it_fails_while_shards_still_run_once_a_threshold_is_passed(look, folder, states):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException, match="error_threshold") as caught:
        look()
    assert "bad pixel" in str(caught.value)


def test_its_abort_binds_the_nodes(look, folder, states):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look(clear_number=2)
    record = abort_of(folder)
    assert (record.author, record.abort.epoch) == ("gatekeeper", Epoch(0, 2))


def test_an_abort_is_reported(look, folder):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    assert json.loads(folder.names.report.read_text())["status"] == "aborted"


def test_an_abort_before_a_clear_does_not_bind_it(look, folder, states):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    states.update({"score.mini_batches_0": "queued", "score.mini_batches_1": "queued"})
    with pytest.raises(AirflowRescheduleException):
        look(try_number=2, clear_number=1)


def test_a_try_that_looks_again_after_a_clear_of_others_is_bound_by_its_own_epoch(look, folder, states):
    states["score.mini_batches_1"] = "queued"
    with pytest.raises(AirflowRescheduleException):
        look()
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look(clear_number=1)
    assert abort_of(folder).abort.epoch == Epoch(0, 0)


def test_another_execution_of_plan_begins_again_at_the_first_try(look, folder, states):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look(try_number=3, clear_number=5)
    states.update({"score.mini_batches_0": None, "score.mini_batches_1": None})
    with pytest.raises(AirflowRescheduleException):
        look(execution=1)


def test_shards_that_were_not_cleared_abort_the_run_at_two_looks(look, folder, states, monkeypatch):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    states["score.mini_batches_1"] = "queued"
    monkeypatch.setattr(watch_module, "CERTAIN_AFTER_S", 0.02)
    with pytest.raises(AirflowFailException, match="error_threshold"):
        look(try_number=2, clear_number=1)


def test_new_limits_do_not_undo_an_abort_and_let_a_clear_of_gatekeeper_and_merge_publish(look, folder, states):
    do_shard(folder, 0, failed=[1])
    do_shard(folder, 1)
    with pytest.raises(AirflowFailException, match="2 of 8 items failed, error_threshold allows 0"):
        look()
    change_limits(folder, {"error_threshold": 2}, "ann@host")
    with pytest.raises(AirflowFailException, match="2 of 8 items failed, error_threshold allows 0"):
        look(try_number=2)
    assert look(try_number=3, clear_number=1)["failed"] == 1
    merged = merge_run(folder)
    assert merged.report["thresholds"]["error_threshold"] == {"limit": 2, "count": 2}
    assert Path(merged.location).read_bytes() == rows_of(0) + rows_of(2) + rows_of(3)


def test_lower_limits_abort_a_run_that_goes_on(look, tmp_path, gatekeeper, states):
    lenient = make_folder(tmp_path / "lenient", 2, 2)
    do_shard(lenient, 0, failed=[1])
    states["score.mini_batches_1"] = "running"
    with pytest.raises(AirflowRescheduleException):
        gatekeeper.execute(context_of(folder=str(lenient.path)))
    change_limits(lenient, {"allowed_failed_count": 0}, "ann@host")
    with pytest.raises(AirflowFailException, match="allowed_failed_count allows 0"):
        gatekeeper.execute(context_of(folder=str(lenient.path)))


def test_during_a_drain_it_waits_for_the_shards_that_run_and_then_reports(look, folder, states, supervised):
    states["score.mini_batches_1"] = "running"
    attempt = open_attempt(folder, 1)
    orders.abort(folder, AbortKind.DRAIN, "ann@host")
    assert deferral(look)
    commit(attempt, [make_outcome(2)], closing=Closing.ABORTED)
    states.update({"score.mini_batches_0": "queued", "score.mini_batches_1": "failed"})
    with pytest.raises(AirflowFailException, match=r"nothing is published: drained by ann@host\."):
        look()
    report = json.loads(folder.names.report.read_text())
    assert (report["status"], report["mini_batches"]["succeeded"]) == ("aborted", 1)


def test_a_cancel_ends_it_while_shards_still_run(look, folder, states):
    states["score.mini_batches_1"] = "running"
    open_attempt(folder, 1)
    orders.abort(folder, AbortKind.CANCEL, "ann@host")
    with pytest.raises(AirflowFailException, match="cancelled by ann@host") as caught:
        look()
    assert f"airflow-prs runs resume {folder.path}" in str(caught.value)
    assert "a higher" not in str(caught.value)


def test_it_says_what_to_clear_for_fresh_tries(look, tmp_path, gatekeeper, states):
    lenient = make_folder(tmp_path / "lenient", 2, 2)
    do_shard(lenient, 0)
    do_shard(lenient, 1, failed=[2])
    summary = gatekeeper.execute(context_of(folder=str(lenient.path)))
    assert summary["failed"] == 1
    assert summary["advice"].startswith("1 mini-batch failed in shards that are done (map indexes of mini_batches: 1)")


def test_a_run_without_failures_needs_no_advice(look, folder):
    do_shard(folder, 0)
    do_shard(folder, 1)
    assert "advice" not in look()


def test_it_waits_for_what_the_shards_have_written_before_it_concludes(look, folder, monkeypatch):
    do_shard(folder, 0)
    attempt = open_attempt(folder, 1)
    monkeypatch.setattr(committed.read_committed, "__kwdefaults__", {"sleep": lambda _: done()})

    def done():
        commit(attempt, [make_outcome(2), make_outcome(3)], closing=Closing.DONE)

    assert look(positions={0: 4, 1: 1})["succeeded"] == 4


def test_a_shard_that_is_cleared_while_it_waits_for_storage_aborts_nothing(look, folder, states, monkeypatch):
    do_shard(folder, 0)
    attempt = open_attempt(folder, 1)
    monkeypatch.setattr(committed.read_committed, "__kwdefaults__", {"clock": lambda: 0.0, "sleep": lambda _: clear()})

    def clear():
        commit(attempt, [make_failure(2), make_failure(3)], closing=Closing.DONE)
        states["score.mini_batches_1"] = "queued"

    with pytest.raises(AirflowRescheduleException):
        look(positions={1: 1})
    log = folder.run_log()
    log.follow()
    assert log.aborted is None


def test_storage_that_lags_behind_fails_it_for_another_try(look, folder, monkeypatch):
    do_shard(folder, 0)
    monkeypatch.setattr(committed.read_committed, "__kwdefaults__", {"sleep": lambda _: None})
    with pytest.raises(RunFolderError, match="shard 1 has written record 9"):
        look(positions={0: 0, 1: 9})


def test_an_abort_needs_no_positions(look, folder, states):
    do_shard(folder, 0, failed=[1])
    states["score.mini_batches_1"] = "running"
    with pytest.raises(AirflowFailException, match="error_threshold"):
        look()
    states["score.mini_batches_1"] = "failed"
    with pytest.raises(AirflowFailException, match="error_threshold"):
        look(positions={0: 100, 1: 100})


def test_a_shard_that_failed_for_good_fails_the_run_with_its_reason(look, folder, states):
    do_shard(folder, 0)
    states["score.mini_batches_1"] = "failed"
    with pytest.raises(AirflowFailException, match=r"(?s)shard 1: init\(\) keeps failing.*2 of 4 mini-batches"):
        look(errors={1: "init() keeps failing"})
    assert json.loads(folder.names.report.read_text())["status"] == "failed"


def test_a_failed_shard_whose_work_is_done_is_told_apart(look, folder, states):
    do_shard(folder, 0)
    do_shard(folder, 1)
    states["score.mini_batches_1"] = "failed"
    with pytest.raises(AirflowFailException, match="a shard has failed as a task"):
        look()


def test_a_shard_marked_as_success_by_hand_hides_no_missing_work(look, folder):
    do_shard(folder, 0)
    with pytest.raises(AirflowFailException, match="2 of 4 mini-batches"):
        look()


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "up_for_retry"])
def test_it_waits_for_a_plan_that_was_cleared_and_has_left_nothing_yet(look, monkeypatch, supervised, state):
    states = {"score.plan": {"score.plan": state}, "score.mini_batches": {"score.mini_batches_0": "success"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda *, task_ids, **_: {"run 1": states[task_ids[0]]})
    with pytest.raises(AirflowRescheduleException):
        look(folder="")
    states["score.plan"]["score.plan"] = "success"
    with pytest.raises(AirflowFailException, match="marked as success by hand"):
        look(folder="")


def test_without_a_run_folder_it_says_what_to_clear(look, supervised):
    with pytest.raises(AirflowFailException, match=r"clear score\.plan"):
        look(folder="")


# The trigger


@pytest.fixture
def watch(folder, monkeypatch):
    """Run the trigger to its event, with a clock in a hurry."""
    monkeypatch.setattr(trigger_module, "EXECUTION_LINGERS", timedelta())
    monkeypatch.setattr(folder_module, "ON_FILES", replace(ON_FILES, run_look_s=0.01))
    monkeypatch.setattr(trigger_module, "ASK_AIRFLOW_EVERY_S", 0.0)

    def watch(path=folder.path, clear=0, longest_s=0.1):
        trigger = GatekeeperTrigger(
            folder=str(path),
            execution=0,
            clear=clear,
            dag_id="digits",
            run_id="run 1",
            shards_task_id="score.mini_batches",
            until=time.time() + longest_s,
        )
        path, arguments = trigger.serialize()
        assert path == "airflow_prs.triggers.gatekeeper.GatekeeperTrigger"
        return asyncio.run(anext(GatekeeperTrigger(**arguments).run())).payload["seen"]

    return watch


def test_the_trigger_wakes_on_an_abort_and_has_written_it(watch, folder, states):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[0])
    assert watch() == Seen.ABORT.value
    assert abort_of(folder).author == "gatekeeper"


def test_an_abort_before_a_clear_does_not_wake_it(watch, folder, states):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[0])
    assert watch() == Seen.ABORT.value
    assert watch(clear=1) == Seen.TIME_IS_UP.value


def test_a_drain_does_not_wake_it_before_the_shards_have_ended(watch, folder, states):
    states["score.mini_batches_1"] = "running"
    open_attempt(folder, 1)
    orders.abort(folder, AbortKind.DRAIN, "ann@host")
    assert watch() == Seen.TIME_IS_UP.value
    states["score.mini_batches_1"] = "failed"
    assert watch(longest_s=30) == Seen.IDLE.value


def test_what_airflow_says_aborts_a_run_of_several_epochs(watch, folder, states, monkeypatch):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[0])
    watch()
    monkeypatch.setattr(watch_module, "CERTAIN_AFTER_S", 0.02)
    assert watch(clear=1, longest_s=30) == Seen.ABORT.value


@pytest.mark.parametrize("state", ["failed", "queued", "up_for_retry"])
def test_the_trigger_wakes_once_no_shard_is_running(watch, states, state):
    states["score.mini_batches_1"] = state
    assert watch(longest_s=30) == Seen.IDLE.value


def test_the_trigger_watches_on_if_another_shard_starts_at_once(watch, monkeypatch):
    found = iter(["running", "queued", "running", "queued", "running"])

    def get_task_states(**_):
        return {"run 1": {"score.mini_batches_0": "success", "score.mini_batches_1": next(found, "running")}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    assert watch() == Seen.TIME_IS_UP.value


def test_the_trigger_wakes_when_its_time_is_up(watch, states):
    states["score.mini_batches_1"] = "running"
    assert watch() == Seen.TIME_IS_UP.value


def test_the_trigger_says_where_it_sees_nothing(watch, tmp_path, states):
    assert watch(tmp_path / "not mounted") == Seen.NOTHING.value


def test_a_trigger_of_an_older_version_fails_as_airflow_expects():
    """Airflow then wakes the gatekeeper with an error, and it continues by rescheduling."""
    with pytest.raises(TypeError):
        GatekeeperTrigger(
            folder="/out", attempt="1", set_aside=[], dag_id="d", run_id="r", shards_task_id="s", until=0.0
        )


def test_the_trigger_logs_the_progress_of_the_entire_run(watch, folder, states, monkeypatch, capsys):
    monkeypatch.setattr(trigger_module, "TELL_EVERY_S", 0.03)
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0)
    watch(longest_s=0.3)
    assert "2 of 4 mini-batches are done, 0 of them failed; none was done in the last" in capsys.readouterr().out
