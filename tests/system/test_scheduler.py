"""A run as a user sees it: triggered through the REST API, placed by a real scheduler."""

from __future__ import annotations

import psutil
import pytest

from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.shard_records import Closing
from tests.airflow_services import wait_until
from tests.shards import read_outcomes
from tests.system.step_runs import IS_AIRFLOW_3_1, Place, StepRun, write_dag

pytestmark = pytest.mark.system

LABELS = {0: "shard 0 · mini-batches 0–5", 1: "shard 1 · mini-batches 6–11"}  # noqa: RUF001 - an en dash

BESIDE = {"queued", "running", "deferred", "up_for_reschedule"}
"""States of a gatekeeper that need not wait for the shards."""
GRACE_S = 30


def labels(run):
    return {number: run.shard(number)["rendered_map_index"] for number in LABELS}


def test_two_shards_run_at_the_same_time_and_the_result_is_published(airflow, tmp_path):
    write_dag(airflow, "two_shards")
    place = Place(tmp_path / "place")
    place.hold("0002", "0004", "0008", "0010")

    run = StepRun.trigger(airflow, "two_shards", place, nodes=2)

    wait_until(lambda: "step.mini_batches[1]" in run.states(), run.summary)
    for done in (2, 4):
        for number in LABELS:
            run.wait_for_shard(number, done=done)
        states = run.states()
        assert {states[f"step.mini_batches[{number}]"] for number in LABELS} == {"running"}
        assert states["step.gatekeeper"] in BESIDE
        assert [run.done(number, 1) for number in LABELS] == [done, done]
        if not IS_AIRFLOW_3_1:  # which renders labels when a task ends
            assert labels(run) == LABELS
        place.release("0002", "0008")
    assert run.finish() == "success", run.summary()
    assert place.result == place.items
    assert labels(run) == LABELS
    assert run.states() == dict.fromkeys(
        [
            "before",
            "step.plan",
            "step.mini_batches[0]",
            "step.mini_batches[1]",
            "step.gatekeeper",
            "step.merge",
            "after",
        ],
        "success",
    )
    assert set(place.ran.values()) == {1}


@pytest.mark.slow
def test_a_step_without_shards_ends_as_plan_does(airflow, tmp_path):
    """plan fails, skips, or finds the rows of an earlier run."""
    write_dag(airflow, "no_input", step='on_empty="skip"')
    write_dag(airflow, "missing_input")
    write_dag(airflow, "reused")
    full, empty = Place(tmp_path / "full"), Place(tmp_path / "empty", items=0)
    assert StepRun.trigger(airflow, "reused", full).finish() == "success"
    runs = {
        "skipped": StepRun.trigger(airflow, "no_input", empty),
        "failed": StepRun.trigger(airflow, "missing_input", empty),
        "success": StepRun.trigger(airflow, "reused", full),
    }

    def states(of_plan, of_shards, of_others):
        return {
            "before": "success",
            "step.plan": of_plan,
            "step.mini_batches": of_shards,
            **dict.fromkeys(("step.gatekeeper", "step.merge", "after"), of_others),
        }

    for run in runs.values():
        run.finish()
    assert {plan: run.states() for plan, run in runs.items()} == {
        "skipped": states("skipped", "skipped", "skipped"),
        "failed": states("failed", "upstream_failed", "upstream_failed"),
        "success": states("success", "skipped", "success"),
    }
    assert set(full.ran.values()) == {1}


@pytest.mark.slow
def test_a_run_that_is_continued_with_more_nodes_uses_all_of_them(airflow, tmp_path):
    write_dag(airflow, "more_nodes")
    place = Place(tmp_path / "place", items=30)
    place.fail("0003")
    run = StepRun.trigger(airflow, "more_nodes", place, allowed=0, tries=1, pace_s=0.5)
    assert run.finish() == "failed"
    assert "step.mini_batches[1]" not in run.states()
    place.repair()

    file = airflow.dags / "more_nodes" / "dag.py"
    file.write_text(file.read_text().replace("default_value=1, minimum=1", "default_value=3, minimum=1"))

    def has_new_default():
        # Airflow drops a change within 30 seconds of the one before, and does not look at the file again by itself.
        file.touch()
        return airflow.api.get("dags/more_nodes/details")["params"]["nodes"]["value"] == 3

    wait_until(has_new_default, "the new default", every=5)
    run.clear("step.plan", downstream=True)

    assert run.finish() == "success", run.summary()
    assert place.result == place.items
    again = {name for name, count in place.ran.items() if count > 1}
    assert {"0003"} <= again <= {"0003", "0004"}, "more than what failed, and what the abort ended, ran again"
    labels = [run.shard(number)["rendered_map_index"] for number in range(3)]
    takes_over = [f"shard {number} · takes mini-batches over" for number in (1, 2)]
    assert labels == ["shard 0 · mini-batches 0–29", *takes_over]  # noqa: RUF001 - an en dash
    assert {run.states()[f"step.mini_batches[{number}]"] for number in range(3)} == {"success"}
    committed = read_committed(run.folder(), run.folder().read_manifest())
    (state,) = committed.states
    nodes = {committed.nodes(state)[outcome["writer"]] for outcome in committed.outcomes(state)}
    helped = {node.rsplit("-", 2)[1] for node in nodes} - {"0"}
    # On a busy machine one of the two may begin when nothing is left.
    assert helped, "no further node did anything"
    assert helped <= {"1", "2"}


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["depends_on_past", "wait_for_downstream"])
def test_a_step_waits_until_the_step_of_the_run_before_has_succeeded(airflow, tmp_path, flag):
    write_dag(airflow, flag, step=f"{flag}=True")
    places = [Place(tmp_path / day) for day in ("28", "29")]
    places[0].fail("0004")
    first, second = (
        StepRun.trigger(airflow, flag, place, logical_date=f"2024-02-{place.path.name}T00:00:00Z", allowed=0, tries=1)
        for place in places
    )
    second.wait_for_task("before", "success")
    first.wait_for_end("failed")
    assert first.states()["step.plan"] == "success"
    assert second.states()["step.plan"] is None, second.summary()

    places[0].repair()
    first.clear("step.mini_batches", downstream=True)

    assert (first.finish(), second.finish()) == ("success", "success"), second.summary()
    assert [place.result for place in places] == [place.items for place in places]
    plan, merge = second.task_instances()["step.plan"], first.task_instances()["step.merge"]
    assert plan["start_date"] > merge["end_date"]


@pytest.mark.slow
def test_default_args_reach_no_task_that_they_would_break(airflow, tmp_path):
    default_args = {"trigger_rule": "one_failed", "retries": 1, "retry_delay": 1, "depends_on_past": True}
    write_dag(airflow, "default_args", dag=f"{default_args=}")
    for day in ("2024-02-28", "2024-02-29"):
        place = Place(tmp_path / day)
        place.hold("0002")
        run = StepRun.trigger(airflow, "default_args", place, logical_date=f"{day}T00:00:00Z")
        run.wait_for_shard(0, done=2)
        run.task_process(0).kill()
        folder = run.folder()
        committed = read_outcomes(folder)["index"].tolist()
        assert run.finish_after_kill() == "success", run.summary()
        assert place.result == place.items
        # Behind the step the trigger rule does what it says.
        assert {name for name, state in run.states().items() if state != "success"} == {"after"}
        assert run.states()["after"] == "skipped"
        assert {place.ran[place.items[index]] for index in committed} == {1}


@pytest.mark.slow
@pytest.mark.skipif(IS_AIRFLOW_3_1, reason="its supervisor keeps SIGTERM from the task")
def test_a_pod_that_is_to_go_commits_what_is_done(airflow, tmp_path):
    """
    Kubernetes sends SIGTERM to the first process of a pod, Airflow's supervisor, and 30 seconds later SIGKILL.

    Here the executor started the supervisor; what it does is the same.
    """
    write_dag(airflow, "evicted")
    place = Place(tmp_path / "place")
    place.hold("0004")
    run = StepRun.trigger(airflow, "evicted", place, nodes=1)
    run.wait_for_shard(0, done=4)
    wait_until(lambda: place.ran["0004"] == 1, run.summary)
    node, worker = run.task_process(0), run.worker_process(0)
    folder = run.folder()

    def commit() -> tuple[int, Closing | None]:
        state = folder.read_shard(folder.read_manifest().shards[0])
        return state.progress.done, state.closing

    node.parent().terminate()

    # Airflow's retry begins within a few seconds, and from then on the commit is that of the retry.
    wait_until(lambda: commit() == (4, Closing.STOPPED), run.summary)
    _, alive = psutil.wait_procs([node, worker], timeout=GRACE_S)
    assert alive == []
    assert run.finish() == "success", run.summary()
    assert place.result == place.items
    assert place.ran == {**dict.fromkeys(place.items, 1), "0004": 2}
    assert run.tries()["step.mini_batches[0]"] == 2
