"""What several integration tests need."""

from __future__ import annotations

import re
import sys
import venv
from pathlib import Path

import pytest

from tests.dag_runs import DagFile


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=sys.platform != "win32")
    return folder / "bin" / "python"


@pytest.fixture
def dag_file(airflow_home, request):
    """A DAG file of this test's own."""
    file = DagFile(airflow_home / "dags" / re.sub(r"\W+", "_", request.node.name)[:100])
    yield file
    file.remove()
