"""With one slot a run ends all the same: the gatekeeper keeps nothing from the shards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from tests.airflow_services import AirflowServices, running_airflow
from tests.system.step_runs import IS_AIRFLOW_3_1, Place, StepRun, write_dag

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module", params=["parallelism of one", "pool of one slot"])
def scarce(request, tmp_path_factory) -> Iterator[AirflowServices]:
    """An Airflow without a triggerer that runs one task at a time, or whose default pool has one slot."""
    variables = {
        "parallelism of one": {"AIRFLOW__CORE__PARALLELISM": "1"},
        "pool of one slot": {"AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "1"},
    }
    home = tmp_path_factory.mktemp("scarce") / "home"
    with running_airflow(home, without=["triggerer"], environment=variables[request.param]) as services:
        yield services
    assert services.processes() == []


def test_a_run_ends_with_one_slot_and_without_a_triggerer(scarce, tmp_path):
    write_dag(scarce, "scarce")
    place = Place(tmp_path / "place")
    run = StepRun.trigger(scarce, "scarce", place, nodes=2)

    assert run.finish() == "success", run.summary()

    assert place.result == place.items
    assert set(place.ran.values()) == {1}


def test_an_aborted_run_ends_with_one_slot_and_without_a_triggerer(scarce, tmp_path):
    write_dag(scarce, "scarce_abort")
    place = Place(tmp_path / "place")
    place.fail("0004")
    run = StepRun.trigger(scarce, "scarce_abort", place, nodes=2, allowed=0, tries=1)

    assert run.finish() == "failed", run.summary()

    states = run.states()
    assert (states["step.gatekeeper"], states["step.merge"]) == ("failed", "upstream_failed")
    assert place.result is None


@pytest.mark.skipif(IS_AIRFLOW_3_1, reason="it fails a task whose process was killed, without a retry")
def test_a_pool_that_counts_deferred_tasks_has_a_slot_for_a_retry(tmp_path):
    with running_airflow(tmp_path / "home") as services:
        write_dag(services, "counted", step="pool='counted'")
        pool = {"name": "counted", "slots": 2, "include_deferred": True}
        services.api.post("pools", pool)
        place = Place(tmp_path / "place")
        place.hold("0002", "0003")
        run = StepRun.trigger(services, "counted", place, nodes=1)
        run.wait_for_shard(0, done=2)
        run.wait_for_task("step.gatekeeper", "deferred")
        services.api.patch("pools/counted", {**pool, "slots": 1})
        killed = datetime.now(timezone.utc)
        run.task_process(0).kill()
        place.release("0002")
        run.wait_for_shard(0, try_number=2, done=3)
        waited = datetime.fromisoformat(run.shard(0)["start_date"]) - killed

        assert run.finish() == "success", run.summary()

        assert place.result == place.items
        assert waited < timedelta(minutes=1)
