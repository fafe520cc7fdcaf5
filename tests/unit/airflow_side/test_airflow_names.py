"""Which names of Airflow we import; the installed version has those that its documentation does not promise, too."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import airflow.sdk
import pytest
from airflow.sdk import DAG, TaskGroup
from airflow.sdk.log import mask_secret
from packaging.version import Version

from airflow_prs import airflow_side
from airflow_prs.airflow_side import exceptions, masking, shard_states, supervision
from airflow_prs.airflow_side.authoring import StepOutput, free_id
from airflow_prs.airflow_side.configuration import conf
from airflow_prs.operators.plan import PlanOperator

ROOT = Path(__file__).parents[3]
AIRFLOW_SIDE = ROOT / "airflow_prs" / "airflow_side"
PUBLIC = {
    "airflow.plugins_manager": ["AirflowPlugin"],
    "airflow.sdk": airflow.sdk.__all__,
    "airflow.sdk.log": ["mask_secret"],
    "airflow.sdk.types": ["RuntimeTaskInstanceProtocol"],
    "airflow.triggers.base": ["BaseTrigger", "TriggerEvent"],
}
"""What Airflow's documentation promises: its "Public Interface", "Plugins", and the reference of the Task SDK."""


def version_in(file: str, pattern: str) -> Version:
    return Version(re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)[1])


LOWEST = version_in("pyproject.toml", r'"apache-airflow>=([\d.]+)"')
NEWEST = version_in("uv.lock", r'^name = "apache-airflow"\nversion = "([\d.]+)"')


@dataclass(frozen=True)
class Import:
    """An import statement, as far as it imports what Airflow does not promise."""

    path: Path
    line: int
    names: str

    @property
    def versions(self) -> tuple[Version, Version]:
        """The versions that the comment above the statement names."""
        comment = []
        for line in reversed(self.path.read_text().splitlines()[: self.line - 1]):
            if not line.lstrip().startswith("#"):
                break
            comment.insert(0, line.strip(" #"))
        tried = re.match(r"Airflow (\d[\d.]+) to (\d[\d.]*\d)\b.*\w", " ".join(comment))
        assert tried, f"{self}: no comment such as '# Airflow {LOWEST} to {NEWEST}: why it is needed'"
        return Version(tried[1]), Version(tried[2])


def private_imports(folder: str) -> Iterator[Import]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "airflow"]
            elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "airflow":
                public = PUBLIC.get(node.module, ())
                names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
            else:
                continue
            if names:
                yield Import(path, node.lineno, ", ".join(names))


@pytest.mark.parametrize("folder", ["airflow_prs", "dags_examples"])
def test_only_airflow_side_imports_what_airflow_does_not_promise(folder):
    assert [each for each in private_imports(folder) if each.path.parent != AIRFLOW_SIDE] == []


@pytest.mark.parametrize(
    "path", sorted({each.path for each in private_imports("airflow_prs")}), ids=lambda path: path.stem
)
def test_it_was_tried_with_the_lowest_version_and_with_that_of_the_lock_file(path):
    tried = [each.versions for each in private_imports("airflow_prs") if each.path == path]
    assert (min(first for first, _ in tried), max(last for _, last in tried)) == (LOWEST, NEWEST)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(airflow_side.__path__)])
def test_the_installed_version_has_the_names(name):
    import_module(f"airflow_prs.airflow_side.{name}")


def test_exceptions_are_what_airflow_treats_them_as():
    failures = {
        name for name in exceptions.__all__ if issubclass(getattr(exceptions, name), exceptions.AirflowException)
    }
    assert set(exceptions.__all__) - failures == {"AirflowTaskTimeout"}
    assert not issubclass(exceptions.AirflowTaskTimeout, Exception)


def test_the_configuration_has_no_fernet_key_that_everybody_knows(monkeypatch):
    monkeypatch.delenv("AIRFLOW__CORE__FERNET_KEY", raising=False)
    assert "FERNET_KEY" not in conf.get("core", "fernet_key", fallback="")
    assert conf.getint("core", "max_map_length", fallback=0) > 0


def test_the_open_dag_and_group_are_found():
    assert free_id("step", None, None) == "step"
    with DAG("steps", schedule=None) as dag, TaskGroup("around"):
        plan = {
            name: None for name in inspect.signature(PlanOperator.__init__).parameters if name not in {"self", "kwargs"}
        }
        task = PlanOperator(**plan, task_id="step.plan")
        assert free_id("step", None, None) == "step__1"
        assert free_id("step", dag, dag.task_group) == "step"
    assert StepOutput(task).operator is task


def test_secrets_of_airflow_are_masked_in_other_spellings_too():
    mask_secret("open (sesame)")
    assert masking.known_secrets_masker()("open (sesame), open%20%28sesame%29") == "***, ***"


def test_a_supervised_process_is_known_by_its_channel():
    assert "CommsDecoder" in supervision.task_runner.__annotations__["SUPERVISOR_COMMS"]
    assert not supervision.is_supervised()


def test_states_of_a_runs_shards_can_be_asked_for_without_a_task_instance():
    ask = shard_states.RuntimeTaskInstance.get_task_states
    assert inspect.signature(ask).bind(dag_id="dag", task_ids=["task"], run_ids=["run"])
