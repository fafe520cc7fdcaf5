"""
Runs on two workers of Celery, which are on hosts of their own: host name, network, process numbers, AIRFLOW_HOME.

They share the folders of input, output and DAGs. Each runs one task at a time, so two shards that are both running are
on both.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.airflow_services import ApiError, wait_until
from tests.celery_cluster import CeleryCluster, celery_cluster
from tests.system.step_runs import Place, StepRun, write_dag

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
WORKERS = ["vm-a", "vm-b"]
SHARDS = ["step.mini_batches[0]", "step.mini_batches[1]"]
THIRD = {"0002", "0008"}
"""The third mini-batch of each shard."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[CeleryCluster]:
    with celery_cluster(tmp_path_factory.mktemp("celery"), WORKERS) as celery:
        write_dag(celery.services, "anywhere")
        write_dag(
            celery.services,
            "by_queue",
            step="queue='vm-b', retries=0,",
            config="compute_target=ComputeTarget(queue='vm-a'),",
        )
        shutil.copytree(EXAMPLES, celery.services.dags / "dags_examples")
        celery.services.wait_for_dag("example_digits")
        yield celery


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    place = Place(tmp_path / "place")
    yield place
    place.release()


# Where tasks are.


def hosts_of(run: StepRun) -> dict[str, str]:
    return {name: ti["hostname"] for name, ti in run.task_instances().items()}


def node_of(cluster: CeleryCluster, run: StepRun, number: int) -> psutil.Process:
    ti = run.shard(number)
    return cluster.hosts[ti["hostname"]].process(ti["pid"])


def log_of(cluster: CeleryCluster, run: StepRun, name: str) -> str:
    """What the last try of a task instance has logged, on the host where it was."""
    ti = run.task_instances()[name]
    place = f"logs/dag_id={run.dag_id}/run_id={run.run_id}/task_id={ti['task_id']}"
    mapped = "" if ti["map_index"] < 0 else f"/map_index={ti['map_index']}"
    return (cluster.home(ti["hostname"]) / f"{place}{mapped}/attempt={ti['try_number']}.log").read_text()


def run_on_both(cluster: CeleryCluster, place: Place, **conf: Any) -> StepRun:
    """Trigger a run of two shards, and wait until each is in run() of its third mini-batch, on a host of its own."""
    place.hold(*THIRD)
    run = StepRun.trigger(cluster.services, "anywhere", place, nodes=2, **conf)
    wait_until(lambda: SHARDS[1] in run.states(), run.summary)
    for number in (0, 1):
        run.wait_for_shard(number, done=2)
    wait_until(lambda: place.ran.keys() >= THIRD, run.summary)
    assert {hosts_of(run)[shard] for shard in SHARDS} == set(WORKERS)
    return run


# What runs there.


def test_the_digits_are_read_on_both_workers(cluster, tmp_path):
    path = "dags/example_digits/dagRuns"
    conf = {"folder": str(tmp_path), "mini_batch_size": 50}
    with pytest.raises(ApiError, match="node_count"):
        cluster.services.api.post(path, {"logical_date": None, "conf": {**conf, "node_count": 0}})

    cluster.services.run("example_digits", {**conf, "node_count": 2})

    lines = (tmp_path / "result" / "digits.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"{number:04}.png" for number in range(1797)]
    (report,) = tmp_path.glob("result/_parallel_run/*/*/*/*/report.json")
    assert json.loads(report.read_text())["mini_batches"]["total"] == 36
    nodes = (report.parent / "node_summary.csv").read_text()
    assert "vm-a-" in nodes
    assert "vm-b-" in nodes


def test_shards_go_to_the_queue_of_their_compute_target(cluster, place):
    run = StepRun.trigger(cluster.services, "by_queue", place, nodes=2)
    assert run.finish() == "success", run.summary()
    hosts = hosts_of(run)
    assert {hosts[shard] for shard in SHARDS} == {"vm-a"}
    assert {hosts[f"step.{name}"] for name in ("plan", "gatekeeper", "merge")} == {"vm-b"}
    assert place.result == place.items
    assert set(place.ran.values()) == {1}


def test_a_worker_that_cannot_see_the_run_folder_says_so(cluster, place):
    cluster.hosts["vm-a"].hide(place.path)
    try:
        run = StepRun.trigger(cluster.services, "by_queue", place)
        assert run.finish() == "failed", run.summary()
    finally:
        cluster.hosts["vm-a"].show(place.path)
    assert run.states()["step.merge"] == "upstream_failed"
    folder = str(run.folder().path)
    for task in ("step.mini_batches[0]", "step.gatekeeper"):
        assert folder in log_of(cluster, run, task)
    assert place.result is None
    assert not place.ran


def test_a_threshold_stops_both_workers_within_two_seconds(cluster, place):
    place.fail("0002")
    run = run_on_both(cluster, place, allowed=0, tries=1)
    nodes = [node_of(cluster, run, number) for number in (0, 1)]
    # A shard that is done succeeds: this one has work left.
    place.hold("0003")
    place.release("0002")
    began = time.monotonic()
    workers = [child for node in nodes for child in node.children(recursive=True)]
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert time.monotonic() - began < 4
    run.wait_for_end("failed")
    assert {run.states()[shard] for shard in SHARDS} == {"failed"}
    assert place.result is None


def test_scheduler_and_triggerer_can_be_restarted_during_a_run(cluster, place):
    place.hold("0002")
    run = StepRun.trigger(cluster.services, "anywhere", place)
    run.wait_for_shard(0, done=2)
    run.wait_for_task("step.gatekeeper", "deferred")
    cluster.services.restart("triggerer")
    cluster.services.restart("scheduler")
    assert run.finish() == "success", run.summary()
    assert place.result == place.items
    assert set(place.ran.values()) == {1}
    assert set(run.tries().values()) == {1}


def test_a_worker_that_comes_back_to_the_network_beside_the_next_try_doubles_nothing(cluster, place):
    run = run_on_both(cluster, place)
    lost = hosts_of(run)[SHARDS[0]]
    node = node_of(cluster, run, 0)
    place.hold("0004")
    cluster.hosts[lost].lose_network()
    try:
        # The node works on, since it still sees the disk, and so does the other one.
        place.release(*THIRD)
        run.wait_for_shard(0, try_number=2, done=4)
    finally:
        cluster.hosts[lost].regain_network()
    _, alive = psutil.wait_procs([node], timeout=60)
    assert not alive, "the node lives on beside its successor"
    assert run.finish() == "success", run.summary()
    assert hosts_of(run)[SHARDS[0]] != lost
    assert place.result == place.items
    # What it has done alone counts; what it was doing when the next try began was done by that one.
    assert {item for item, count in place.ran.items() if count > 1} == {"0004"}


def test_a_run_goes_on_after_a_whole_worker_is_gone(cluster, place):
    # The last one, since the worker does not come back.
    run = run_on_both(cluster, place)
    lost, left = hosts_of(run)[SHARDS[0]], hosts_of(run)[SHARDS[1]]
    cluster.hosts[lost].kill()
    # The other one goes on, and then takes the rest.
    place.release("0008")
    run.wait_for_task(SHARDS[1], "success")
    assert place.ran["0002"] == 1
    assert run.finish() == "success", run.summary()
    assert hosts_of(run)[SHARDS[0]] == left
    assert place.result == place.items
    assert {item for item, count in place.ran.items() if count > 1} == {"0002"}
