"""An upgrade while a run is under way: two versions of the package side by side, under a real scheduler."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_prs
from tests.airflow_services import AirflowServices, running_airflow, wait_until
from tests.system.step_runs import Place, StepRun, write_dag

pytestmark = [pytest.mark.system, pytest.mark.slow]

DAG_ID = "upgraded"
OTHER_TRIGGER = """
class _Earlier(GatekeeperTrigger):
    pass


class GatekeeperTrigger(_Earlier):
    def __init__(self, *, added: int = 1, removed: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
"""
OTHER_NODE = """
import logging as _logging

_logging.getLogger(__name__).warning("This is the other version")
"""
OTHER_LAYOUT = """
SCHEMA += 1
"""


class Versions:
    """
    Folders with versions of the package, and a link to the one that is installed.

    :param path: an empty folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.installed = path / "installed"
        self.make("old")
        self.install("old")

    def make(self, name: str, **changes: str) -> None:
        """Make a version: the one that is tested, with something at the end of some modules."""
        package = self.path / name / "airflow_prs"
        shutil.copytree(Path(airflow_prs.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        for module, text in changes.items():
            with (package / f"{module.replace('__', '/')}.py").open("a") as file:
                file.write(text)

    def install(self, name: str) -> None:
        """Replace the installed version, as an upgrade in place does."""
        link = self.path / "new link"
        link.symlink_to(self.path / name)
        link.replace(self.installed)


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> Versions:
    versions = Versions(tmp_path_factory.mktemp("versions"))
    versions.make("other_code", triggers__gatekeeper=OTHER_TRIGGER, node__running=OTHER_NODE)
    versions.make("other_layout", records=OTHER_LAYOUT)
    return versions


@pytest.fixture(scope="module")
def airflow(versions, tmp_path_factory) -> Iterator[AirflowServices]:
    """An Airflow that uses the installed version."""
    home = tmp_path_factory.mktemp("upgrade") / "home"
    with running_airflow(home, environment={"PYTHONPATH": str(versions.installed)}) as services:
        write_dag(services, DAG_ID)
        yield services
    assert services.processes() == []


@pytest.fixture
def run(versions, airflow, tmp_path) -> Iterator[StepRun]:
    """A run of the old version, in the middle of its work, whose gatekeeper waits in the triggerer."""
    place = Place(tmp_path / "place")
    place.hold("0002")
    run = StepRun.trigger(airflow, DAG_ID, place)
    run.wait_for_shard(0, done=2)
    run.wait_for_task("step.gatekeeper", "deferred")
    yield run
    versions.install("old")
    airflow.restart("triggerer")


def test_a_run_goes_on_if_the_triggerer_does_not_know_its_trigger(versions, airflow, run):
    airflow.restart("triggerer", {"PYTHONPATH": str(versions.path / "other_code")})

    run.wait_for_task("step.gatekeeper", "up_for_reschedule")
    assert "The gatekeeper continues by rescheduling" in log_of(run, "step.gatekeeper")

    assert run.finish() == "success", run.summary()
    assert run.place.result == run.place.items
    assert set(run.place.ran.values()) == {1}
    assert set(run.tries().values()) == {1}


def test_a_run_goes_on_with_a_version_that_has_the_same_layout(versions, airflow, run):
    versions.install("other_code")
    airflow.restart("triggerer")
    run.task_process(0).kill()
    run.wait_for_shard(0, try_number=2, done=2)

    assert run.finish_after_kill() == "success", run.summary()
    assert "This is the other version" in log_of(run, "step.mini_batches")
    assert run.place.result == run.place.items
    assert {item for item, count in run.place.ran.items() if count > 1} == {"0002"}


def test_a_run_ends_with_an_error_if_the_layout_changed_and_starts_over_after_a_clear(versions, airflow, run):
    versions.install("other_layout")
    airflow.restart("triggerer")
    run.place.release()
    wait_until(lambda: run.state == "failed", run.summary, 300, every=1)

    assert run.states()["step.merge"] == "upstream_failed"
    assert "Clear the plan task to start over with this version." in log_of(run, "step.gatekeeper")
    assert run.place.result is None

    run.clear("step.plan", downstream=True)
    assert run.finish() == "success", run.summary()
    assert run.place.result == run.place.items


def log_of(run: StepRun, task: str) -> str:
    """Read the logs of all tries of a task."""
    logs = (run.services.home / "logs").glob(f"*/run_id={run.run_id}/task_id={task}/**/*.log")
    return "\n".join(path.read_text() for path in logs)
