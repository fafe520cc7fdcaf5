"""`airflow standalone`, the one command with which most people try Airflow, and a run that its UI triggers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.airflow_services import running_airflow

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


@pytest.fixture
def standalone(tmp_path):
    """Give the services of the command; nothing of them is left running."""
    with running_airflow(tmp_path / "home", is_standalone=True) as services:
        yield services
    assert services.processes() == []


def test_an_example_runs_and_the_form_of_the_ui_chooses_its_nodes(standalone, tmp_path):
    shutil.copytree(EXAMPLES, standalone.dags / "examples")
    standalone.wait_for_dag("example_digits")

    run = standalone.run("example_digits", {"folder": str(tmp_path / "digits"), "node_count": 3})

    tasks = standalone.api.get(f"{run}/taskInstances", limit=100)["task_instances"]
    states = {(task["task_id"], task["map_index"]): task["state"] for task in tasks}
    assert set(states.values()) == {"success"}, states
    assert {number for task, number in states if task == "read_digits.mini_batches"} == {0, 1, 2}
    lines = (tmp_path / "digits" / "result" / "digits.txt").read_text().splitlines()
    assert len(lines) == 1797
    assert lines[0] == "0000.png 0"
