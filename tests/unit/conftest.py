"""Steps to look at, without a database, and stores of each kind."""

from __future__ import annotations

import pytest

from airflow_prs import Environment, FileDataset, ParallelRunConfig, ParallelRunOperator
from tests.stores import STORES


@pytest.fixture(params=["posix", "memory"])
def store(request, tmp_path):
    """An empty store, of each quick kind in turn."""
    return STORES[request.param](tmp_path / "store")


@pytest.fixture
def scripts(tmp_path):
    """A folder with an entry script."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    return folder


@pytest.fixture
def make_config(scripts):
    """Make a configuration."""

    def make(**changes):
        values = {
            "environment": Environment.current(),
            "source_directory": str(scripts),
            "entry_script": "score.py",
            "error_threshold": 0,
            "output_action": "append_row",
            "compute_target": "local",
            "node_count": 2,
        }
        return ParallelRunConfig(**{**values, **changes})

    return make


@pytest.fixture
def make_step(make_config):
    """Make a step inside the current DAG."""

    def make(task_id="step", config=None, **changes):
        values = {
            "parallel_run_config": make_config(**(config or {})),
            "inputs": [FileDataset("/data/in")],
            "output": "/data/out",
        }
        return ParallelRunOperator(task_id=task_id, **{**values, **changes})

    return make
