"""With one slot and without a triggerer a run ends all the same: the gatekeeper keeps nothing from the shards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.airflow_services import AirflowServices, running_airflow
from tests.system.step_runs import Place, StepRun, write_dag

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
