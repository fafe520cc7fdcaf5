"""Runs on object storage, placed by a real scheduler, whose executor forks the processes of tasks."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.airflow_services import running_airflow, wait_until
from tests.object_servers import serve
from tests.servers import fresh_database
from tests.system.step_runs import PlaceOnObjects, StepRun, connected, write_dag

if TYPE_CHECKING:
    import psutil

pytestmark = [pytest.mark.system, pytest.mark.slow]

STORAGES = ("seaweed", "azurite")
ABORT_S = 5
"""What a threshold may take to end all nodes."""
WATCHES_S = 8
"""What a gatekeeper that defers is watched; its trigger looks every two seconds."""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """An Airflow on PostgreSQL, with connections to the servers in its database."""
    home = tmp_path_factory.mktemp("airflow") / "home"
    with fresh_database() as database:
        with running_airflow(home, environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}) as services:
            write_dag(services, "on_objects")
            with connected(services, map(serve, STORAGES)):
                yield services
        assert services.processes() == []


def places(tmp_path, items):
    return {name: PlaceOnObjects(tmp_path / name, serve(name).place(), items=items) for name in STORAGES}


def uses_obstore(process: psutil.Process) -> bool:
    """Return whether a process has loaded the client of object storage, whose threads a fork would lose."""
    return "_obstore" in Path(f"/proc/{process.pid}/maps").read_text()


def states_of(run):
    return {name.removeprefix("step."): state for name, state in run.states().items()}


def test_two_shards_run_and_no_process_that_forks_uses_object_storage(airflow, tmp_path):
    runs = {}
    for name, place in places(tmp_path, 12).items():
        place.hold("0002", "0008")
        runs[name] = StepRun.trigger(airflow, "on_objects", place, nodes=2)
    for run in runs.values():
        wait_until(lambda run=run: "step.mini_batches[1]" in run.states(), run.summary)
        # A mini-batch whose copy is late steps aside, so it may wait behind the one that is held.
        wait_until(lambda run=run: run.place.ran.keys() >= {"0002", "0008"}, run.summary)
        run.wait_for_task("step.gatekeeper", "deferred")

    end = time.monotonic() + WATCHES_S
    while time.monotonic() < end:
        assert {states_of(run)["gatekeeper"] for run in runs.values()} == {"deferred"}, "the trigger has given up"
        time.sleep(0.5)
    nodes = [run.task_process(number) for run in runs.values() for number in range(2)]
    assert {uses_obstore(node) for node in nodes} == {True}
    executors = {node.parent() for node in nodes}
    scheduler = airflow.process("scheduler")
    assert executors <= set(scheduler.children(recursive=True))
    triggerer, dag_processor = airflow.process("triggerer"), airflow.process("dag-processor")
    assert [uses_obstore(process) for process in (*executors, scheduler, triggerer, dag_processor)].count(True) == 0
    assert any(map(uses_obstore, triggerer.children(recursive=True))), "the trigger does not look at the run"

    for run in runs.values():
        run.place.release()
    for name, run in runs.items():
        assert run.finish() == "success", run.summary()
        assert (name, run.place.result) == (name, run.place.items)
        assert set(run.place.ran.values()) == {1}
        assert set(states_of(run).values()) == {"success"}


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def test_a_threshold_aborts_all_nodes_and_a_clear_continues(airflow, tmp_path):
    runs = {}
    for name, place in places(tmp_path, 400).items():
        runs[name] = StepRun.trigger(airflow, "on_objects", place, nodes=2, allowed=0, tries=1, pace_s=0.1)
    began = {}
    for name, run in runs.items():
        wait_until(lambda run=run: "step.mini_batches[1]" in run.states(), run.summary)
        for number in range(2):
            run.wait_for_shard(number, done=2)
        began[name] = time.time()
        run.place.fail(*run.place.items)
    for name, run in runs.items():
        run.wait_for_end("failed")
        assert run.place.result is None
        assert states_of(run)["gatekeeper"] == "failed"
        assert states_of(run)["merge"] == states_of(run)["after"] == "upstream_failed"
        ends = [seconds(run.shard(number)["end_date"]) for number in range(2)]
        took_s = max(ends) - began[name]
        print(f"{name}: all nodes ended {took_s:.1f} seconds after the first failure")
        assert took_s < ABORT_S, run.summary()

        ran_before = run.place.ran
        run.place.repair()
        run.clear("step.plan", downstream=True)
        assert run.finish() == "success", run.summary()
        assert run.place.result == run.place.items
        again = [item for item in run.place.items if item in ran_before and run.place.ran[item] > ran_before[item]]
        assert len(again) < len(ran_before), "nothing that was done was kept"
