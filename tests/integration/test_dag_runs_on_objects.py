"""Whole runs on object storage, as `airflow dags test` does them, with connections of Airflow."""

from __future__ import annotations

import json

import pytest

from airflow_prs.airflow_side.object_storage import use_airflow_connections
from airflow_prs.object_storage import connecting
from airflow_prs.run_folder.folder import RunFolder
from tests.object_servers import SERVERS, serve

ALL = "".join(f"item {number}\n" for number in range(10))
RESULT = "parallel_run_step.txt"


@pytest.fixture
def storage(monkeypatch):
    """Give a place on a server, which has an Airflow connection."""
    monkeypatch.setattr(connecting, "_connect", connecting._refuse)
    monkeypatch.setattr(connecting, "_connections", {})
    # No credentials but those of the connection.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def place_on(name: str):
        server = serve(name)
        for variable, value in server.airflow_connection().items():
            monkeypatch.setenv(variable, value)
        use_airflow_connections()
        return server.place()

    return place_on


def with_items(place):
    """Write ten objects with a line each."""
    for number in range(10):
        (place / f"ten items/{number}.txt").write(f"item {number}")
    return place


@pytest.fixture
def place(storage):
    """A place with ten objects on SeaweedFS."""
    return with_items(storage("seaweed"))


def report_of(run, task_id="step"):
    return RunFolder(run.xcom(f"{task_id}.plan", key="plan")["folder"]).read_report()


def one_step(dag_id, inputs, output, *, step="", config="", after=""):
    return f"""
        with DAG({dag_id!r}) as dag:
            step = ParallelRunOperator(
                task_id="step", parallel_run_config=config({config}), inputs=[{inputs}], output={str(output)!r}, {step}
            )
            {after}
    """


@pytest.mark.parametrize("server", SERVERS)
def test_a_run_publishes_the_rows_in_input_order(dag_file, storage, server):
    place = with_items(storage(server))
    items = f"FileDataset('{place / 'ten items'}')"
    dag_file.write(one_step(f"on_{server}", items, place / "the öutput"))
    run = dag_file.run()
    assert run.states == {
        "step.plan": "success",
        "step.mini_batches[0]": "success",
        "step.mini_batches[1]": "success",
        "step.gatekeeper": "success",
        "step.merge": "success",
    }
    result = place / "the öutput" / RESULT
    assert result.text() == ALL
    assert run.xcom("step.merge") == str(result)
    assert run.xcom("step.merge", key="summary")["location"] == str(result)
    assert run.xcom("step.plan", key="plan")["folder"].startswith(f"{place / 'the öutput'}/_parallel_run/")
