"""Whole runs on object storage, as `airflow dags test` does them, with connections of Airflow."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone

import pandas as pd
import pytest

from airflow_prs.airflow_side.object_storage import use_airflow_connections
from airflow_prs.cli.main import main
from airflow_prs.object_storage import connecting
from airflow_prs.run_folder.folder import RunFolder
from tests.airflow_services import wait_until
from tests.integration.test_queries import postgres
from tests.makers import make_config
from tests.object_servers import serve

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


def assets_of(run):
    """Return the assets that a run has updated, each with the task."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_dag_id == run.dag_id))
        return {(event.source_task_id, event.uri) for event in events}


def one_step(dag_id, inputs, output, *, step="", config="", after=""):
    return f"""
        with DAG({dag_id!r}) as dag:
            step = ParallelRunOperator(
                task_id="step", parallel_run_config=config({config}), inputs=[{inputs}], output={str(output)!r}, {step}
            )
            {after}
    """


def place_of(uri):
    """Return an address without its connection."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


@pytest.mark.parametrize("server", ["seaweed", "azurite", pytest.param("moto", marks=pytest.mark.slow)])
def test_a_run_publishes_the_rows_in_input_order(dag_file, storage, server):
    place = with_items(storage(server))
    items = f"FileDataset('{place / 'ten items'}')"
    outlets = f"outlets=[__import__('airflow.sdk').sdk.Asset('{place}/rows')]"
    dag_file.write(one_step(f"on_{server}", items, place / "the öutput", step=outlets))
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
    # Airflow 3.1 leaves the connection out of the address of an asset.
    assert {(task, place_of(uri)) for task, uri in assets_of(run)} == {("step.merge", place_of(f"{place}/rows"))}


TABLES = """
import pandas as pd, sys

def run(mini_batch):
    side = open(sys.argv[2]).read() if len(sys.argv) > 2 else ""
    return mini_batch.assign(side=side, rows=len(mini_batch))
"""

FRAME = pd.DataFrame({"n": range(6), "word": list("ababab")})


def frame_of(place):
    """Read a table that a run has published."""
    data = io.BytesIO(place.read())
    return pd.read_parquet(data) if place.key.endswith("parquet") else pd.read_json(data, lines=True)


@pytest.mark.slow
def test_tables_of_all_kinds_become_tables(dag_file, storage):
    place = storage("seaweed")
    for half, rows in enumerate((FRAME[:3], FRAME[3:])):
        (place / f"csv/{half}.csv").write(rows.to_csv(index=False))
        (place / f"lines/{half}.jsonl").write(rows.to_json(orient="records", lines=True))
        (place / f"parquet/{half}.parquet").write(rows.to_parquet(index=False))
    (place / "side/word.txt").write("aside")
    lines = [f"{place}/lines/1.jsonl", f"{place}/lines/0.jsonl"]
    inputs = {
        "csv": f"TabularDataset.from_delimited_files('{place}/csv/*.csv')",
        "lines": f"TabularDataset.from_json_lines_files({lines!r})",
        "parquet": f"TabularDataset.from_parquet_files('{place}/parquet')",
        "parted": f"TabularDataset.from_parquet_files('{place}/parquet').partition_by(['word'])",
        "query": 'TabularDataset.from_sql_query("SELECT n::int, chr(97 + n % 2) AS word FROM generate_series(0, 5) n '
        'ORDER BY n", "test_queries")',
    }
    dag_file.script(TABLES)
    dag_file.write(
        f"""
        with DAG("tables_on_objects") as dag:
            side = FileDataset("{place}/side/word.txt").as_named_input("side")
            for name, dataset in {{{", ".join(f"{name!r}: {dataset}" for name, dataset in inputs.items())}}}.items():
                file = "result.jsonl" if name == "lines" else "result.parquet"
                cut = dict(partition_keys=["word"]) if name == "parted" else dict(mini_batch_size="2 rows")
                ParallelRunOperator(
                    task_id=name,
                    parallel_run_config=config(
                        node_count=1, append_row_file_name=file, **{{"mini_batch_size": None, **cut}}
                    ),
                    inputs=[dataset], side_inputs=[side], arguments=["--side", side], output="{place}/out/" + name,
                )
        """
    )
    with postgres():
        run = dag_file.run()
    assert set(run.states.values()) == {"success"}
    found = {
        name: frame_of(place / f"out/{name}/result.{'jsonl' if name == 'lines' else 'parquet'}") for name in inputs
    }
    assert {name: set(frame["side"]) for name, frame in found.items()} == {name: {"aside"} for name in inputs}
    numbers = {name: frame["n"].tolist() for name, frame in found.items()}
    in_order = [0, 1, 2, 3, 4, 5]
    assert numbers == {
        **dict.fromkeys(inputs, in_order),
        "parted": [0, 2, 4, 1, 3, 5],
    }
    assert {name: frame["word"].tolist() for name, frame in found.items()} == {
        name: ["ab"[n % 2] for n in numbers[name]] for name in inputs
    }
    assert found["parted"]["rows"].tolist() == [3] * 6


@pytest.mark.slow
def test_an_equal_run_reuses_the_rows_of_the_one_before(dag_file, place):
    dag_file.write(
        one_step("reuses_objects", f"FileDataset('{place}/ten items/*.txt')", f"{place}/out/{{{{ run_id }}}}")
    )
    first, second = dag_file.run(), dag_file.run()
    assert first.state == second.state == "success"
    assert second.states["step.mini_batches"] == "skipped"
    assert first.xcom("step.merge") != second.xcom("step.merge")
    key = second.xcom("step.merge").partition(f"@{place.server.bucket.name}/")[2]
    assert place.server.place(key).text() == ALL
    assert report_of(second)["reused_from"] == first.xcom("step.plan", key="plan")["folder"]


FAILS_ONCE = """
import pathlib

def run(mini_batch):
    texts = [pathlib.Path(path).read_text() for path in mini_batch]
    with open({ran!r}, "a") as file:
        file.write("".join(text + "\\n" for text in texts))
    if "item 7" in texts and not pathlib.Path({repaired!r}).exists():
        raise ValueError("bad pixel")
    return texts
"""


def test_a_run_that_was_aborted_continues(dag_file, place, tmp_path):
    ran, repaired = tmp_path / "ran", tmp_path / "repaired"
    dag_file.script(FAILS_ONCE.format(ran=str(ran), repaired=str(repaired)))
    config = "error_threshold=0, run_max_try=1, node_count=1, mini_batch_size=1, process_count_per_node=1"
    dag_file.write(one_step("continues_on_objects", f"FileDataset('{place}/ten items')", place / "out", config=config))
    date = datetime(2026, 1, 31, tzinfo=timezone.utc)
    first = dag_file.run(logical_date=date, run_after=date)
    assert first.states["step.gatekeeper"] == "failed"
    assert first.states["step.merge"] == "upstream_failed"
    assert not (place / "out" / RESULT).exists()
    report = report_of(first)
    assert report["status"] == "aborted"
    assert "bad pixel" in report["failures"][0]["traceback"]

    repaired.touch()
    second = dag_file.run(logical_date=date, run_after=date)

    assert (second.state, (place / "out" / RESULT).text()) == ("success", ALL)
    assert second.xcom("step.plan", key="plan")["folder"] == first.xcom("step.plan", key="plan")["folder"]
    again = {item for item, count in Counter(ran.read_text().splitlines()).items() if count > 1}
    assert again <= {"item 7", "item 8"}


def test_files_of_scripts_are_uploaded_and_run_root_may_be_an_address(dag_file, place, monkeypatch):
    monkeypatch.setenv("AIRFLOW__PARALLEL_RUN__RUN_ROOT", f"{place}/runs")
    dag_file.script(
        """
        import os, pathlib

        def run(mini_batch):
            out = pathlib.Path(os.environ["AZUREML_BI_OUTPUT_PATH"])
            for path in map(pathlib.Path, mini_batch):
                (out / "upper").mkdir(exist_ok=True)
                (out / "upper" / path.name).write_text(path.read_text().upper())
            return mini_batch

        def shutdown():
            pathlib.Path(os.environ["AZUREML_BI_OUTPUT_PATH"], "end").write_text("the last file")
        """
    )
    dag_file.write(
        f"""
        with DAG("stores_objects") as dag:
            ParallelRunOperator(
                task_id="step", parallel_run_config=config(output_action="summary_only"),
                inputs=[FileDataset("{place}/ten items")],
            )
            @parallel_run(inputs="{place}/ten items/[0-4].txt", output="{place}/read", process_count_per_node=1)
            def read(mini_batch):
                return [open(path).read() for path in mini_batch]

            @task
            def show(location):
                return location

            show(read())
        """
    )
    run = dag_file.run()
    assert set(run.states.values()) == {"success"}
    location = run.xcom("step.merge")
    assert location.startswith(f"{place}/runs/")
    stored = place / location.removeprefix(f"{place}/") / "upper"
    assert stored.names() == [f"{number}.txt" for number in range(10)]
    assert (stored / "3.txt").text() == "ITEM 3"
    assert (place / location.removeprefix(f"{place}/") / "end").text() == "the last file"
    (result,) = {run.xcom("show"), run.xcom("read.merge")}
    assert result.startswith(f"{place}/read/")
    assert (place / result.removeprefix(f"{place}/")).text() == ALL[: 7 * 5]


WAITS_AT_7 = """
import pathlib, time

def run(mini_batch):
    texts = [pathlib.Path(path).read_text() for path in mini_batch]
    with open({ran!r}, "a") as file:
        file.write("".join(text + "\\n" for text in texts))
    while "item 7" in texts and not pathlib.Path({goes_on!r}).exists():
        time.sleep(0.05)
    return texts
"""


def test_the_command_line_works_on_addresses(place, tmp_path, monkeypatch, capfd):
    for variable, value in place.server.credentials().items():
        monkeypatch.setenv(variable, value)
    top = place.without_connection
    ran, goes_on = tmp_path / "ran", tmp_path / "goes_on"
    ran.touch()
    (tmp_path / "score.py").write_text(WAITS_AT_7.format(ran=str(ran), goes_on=str(goes_on)))
    config = str(tmp_path / "job.yaml")
    make_config(
        entry_script="score.py", source_directory=str(tmp_path), process_count_per_node=1, mini_batch_size=2
    ).save_to_yaml(config)
    inputs = ["--input", f"{top}/ten items/*.txt", "--files"]

    command = [sys.executable, "-m", "airflow_prs", "run", config, *inputs, "--output", f"{top}/out"]
    interrupted = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: "item 7" in ran.read_text() or interrupted.poll() is not None, "item 7", every=0.05)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert f"airflow-prs run --resume {top}/out/_parallel_run/" in said
    goes_on.touch()

    assert main(["run", "--resume", f"{top}/out"]) == 0
    assert capfd.readouterr().out == f"{top}/out/{RESULT}\n"
    assert (place / "out" / RESULT).text() == ALL
    again = {item for item, count in Counter(ran.read_text().splitlines()).items() if count > 1}
    assert again == {"item 6", "item 7"}
    assert main(["show", f"{top}/out"]) == 0
    shown = capfd.readouterr().out
    assert main(["show", f"{top}/out", "--log"]) == 0
    assert "completed" in shown + capfd.readouterr().out
    assert main(["check", config, *inputs]) == 0
    assert main(["run", config, *inputs, "--output", f"{top}/alone", "--in-process"]) == 0
    assert (place / "alone" / RESULT).text() == ALL
