"""An Airflow home of the test session's own, set before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

for name in [name for name in os.environ if name.startswith("AIRFLOW") and name != "AIRFLOW_PRS_TEST_SQL"]:
    del os.environ[name]
# Started in the background of a script, this process and its children would not hear a Ctrl-C that a test sends.
signal.signal(signal.SIGINT, signal.default_int_handler)
HOME = Path(tempfile.gettempdir(), f"airflow_prs-tests-{uuid4().hex}")
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    }
)
# Airflow may write there until the very end.
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


def pytest_unconfigure():
    from airflow_prs.node.processes.staging import remove_abandoned
    from tests.object_servers import stop_servers

    stop_servers()
    shutil.rmtree(HOME, ignore_errors=True)
    remove_abandoned()


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The session's Airflow home; its database is ready."""
    from airflow.utils.db import initdb

    (HOME / "dags").mkdir(parents=True, exist_ok=True)
    initdb()
    return HOME
