"""What the gatekeeper does at each look, and what wakes it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_prs.airflow_side.exceptions import AirflowFailException, AirflowRescheduleException
from airflow_prs.sensors.gatekeeper import GatekeeperSensor
from airflow_prs.triggers import gatekeeper as trigger_module
from airflow_prs.triggers.gatekeeper import GatekeeperTrigger, Seen
from tests.makers import do_shard, make_folder


@dataclass
class Instance:
    """A task instance of the gatekeeper."""

    folder: str
    id: str = "ti-1"
    dag_id: str = "digits"
    run_id: str = "run 1"
    try_number: int = 1
    max_tries: int = 2
    errors: dict[int, str] = field(default_factory=dict)

    def xcom_pull(self, task_ids, key, map_indexes=None, include_prior_dates=False):
        if key == "plan":
            counts = {"mini_batches": 4, "items": 8, "shards": 2}
            return {"folder": self.folder, "execution": 1, **counts} if self.folder else None
        return [self.errors.get(index) for index in map_indexes]


@pytest.fixture
def states(monkeypatch):
    """What Airflow says of the shards; tests change it."""
    states = {"score.mini_batches_0": "success", "score.mini_batches_1": "success"}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run 1": states})
    return states


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


@pytest.fixture
def look(gatekeeper, folder, states):
    """Let the gatekeeper look once."""

    def look(method="execute", *arguments, reschedules=0, **instance):
        context = {"ti": Instance(**{"folder": str(folder.path), **instance}), "task_reschedule_count": reschedules}
        if method == "resume_execution":
            return gatekeeper.resume_execution(*arguments, context)
        return getattr(gatekeeper, method)(context, *arguments)

    return look


def test_it_succeeds_once_every_mini_batch_has_an_outcome(look, folder):
    do_shard(folder, 0)
    do_shard(folder, 1)
    assert look()["succeeded"] == 4


def test_it_succeeds_at_once_where_there_are_no_shards(gatekeeper, tmp_path, states):
    empty = make_folder(tmp_path / "reused")
    states.clear()
    states["score.mini_batches"] = None
    assert gatekeeper.execute({"ti": Instance(str(empty.path))})["total"] == 0


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


@pytest.mark.parametrize("state", ["running", "queued", "up_for_retry", None])
def test_it_defers_while_a_shard_runs_or_may_yet(look, states, supervised, state):
    states["score.mini_batches_1"] = state
    deferred = deferral(look)
    assert isinstance(deferred.trigger, GatekeeperTrigger)
    assert (deferred.method_name, deferred.timeout) == ("resume", timedelta(minutes=5))


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
    assert deferral(look, id="ti-2", try_number=2)


def test_it_fails_while_shards_still_run_once_a_threshold_is_passed(look, folder, states):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException, match="error_threshold") as caught:
        look()
    assert "bad pixel" in str(caught.value)


def test_its_verdict_binds_the_nodes(look, folder, states):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    assert folder.standing_verdict(folder.read_manifest(), ()).author == "gatekeeper"


def test_an_abort_is_reported(look, folder):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    assert json.loads(folder.names.report.read_text())["status"] == "aborted"


def test_a_verdict_that_a_clear_set_aside_does_not_bind_it(look, folder, states):
    do_shard(folder, 0, failed=[1])
    with pytest.raises(AirflowFailException):
        look()
    states.update({"score.mini_batches_0": "queued", "score.mini_batches_1": "queued"})
    with pytest.raises(AirflowRescheduleException):
        look(id="ti-2", try_number=2, max_tries=4)


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


def test_without_a_run_folder_it_says_what_to_clear(look):
    with pytest.raises(AirflowFailException, match=r"clear score\.plan"):
        look(folder="")


@pytest.fixture
def watch(folder, monkeypatch):
    """Run the trigger to its event, with a clock in a hurry."""
    monkeypatch.setattr(trigger_module, "EXECUTION_LINGERS", timedelta())
    monkeypatch.setattr(trigger_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(trigger_module, "IDLE_S", 0.02)

    def watch(path=folder.path, set_aside=(), longest_s=0.1):
        trigger = GatekeeperTrigger(
            folder=str(path),
            attempt="000001-ti-1",
            set_aside=list(set_aside),
            dag_id="digits",
            run_id="run 1",
            shards_task_id="score.mini_batches",
            until=time.time() + longest_s,
        )
        path, arguments = trigger.serialize()
        assert path == "airflow_prs.triggers.gatekeeper.GatekeeperTrigger"
        return asyncio.run(anext(GatekeeperTrigger(**arguments).run())).payload["seen"]

    return watch


def test_the_trigger_wakes_on_a_verdict_and_has_written_it(watch, folder, states):
    states["score.mini_batches_1"] = "running"
    do_shard(folder, 0, failed=[0])
    assert watch() == Seen.VERDICT.value
    assert folder.standing_verdict(folder.read_manifest(), ()) is not None


def test_the_trigger_wakes_once_no_shard_can_run_any_more(watch, states):
    states["score.mini_batches_1"] = "failed"
    assert watch() == Seen.ALL_ENDED.value


@pytest.mark.parametrize("state", ["running", "queued", "up_for_retry"])
def test_the_trigger_wakes_when_its_time_is_up(watch, states, state):
    states["score.mini_batches_1"] = state
    assert watch() == Seen.TIME_IS_UP.value


def test_the_trigger_says_where_it_sees_nothing(watch, tmp_path, states):
    assert watch(tmp_path / "not mounted") == Seen.NOTHING.value
