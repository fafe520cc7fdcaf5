"""One Airflow for all system tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.airflow_services import AirflowServices, running_airflow


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServices]:
    """A scheduler, DAG processor, triggerer and API server; nothing of them is left running."""
    with running_airflow(tmp_path_factory.mktemp("airflow") / "home") as services:
        yield services
    assert services.processes() == []
