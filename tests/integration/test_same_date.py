"""`dag.test()` of the same date again: Airflow replaces the run, and the new one continues its work."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timezone

import pytest

from tests.dag_runs import DagFile

DATE = datetime(2024, 2, 29, tzinfo=timezone.utc)
COUNTING = """
import pathlib

def run(mini_batch):
    with open({ran!r}, "a") as file:
        file.writelines(pathlib.Path(path).name + "\\n" for path in mini_batch)
    return [pathlib.Path(path).name + {mark!r} for path in mini_batch]
"""
SETTINGS = {"error_threshold": 0, "mini_batch_size": 1, "node_count": 1, "run_max_try": 1, "lend": False}
NAMES = [str(number) for number in range(4)]


@pytest.fixture
def dag_file(airflow_home, tmp_path, request):
    """A DAG whose script tells which items it ran."""
    (tmp_path / "items").mkdir()
    for name in NAMES:
        (tmp_path / "items" / name).write_text(name)
    dag_id = re.sub(r"\W", "_", request.node.name)
    file = DagFile(airflow_home / "dags" / dag_id)
    file.write(
        f"""
        with DAG({dag_id!r}) as dag:
            ParallelRunOperator(
                task_id="step", parallel_run_config=config(**{SETTINGS!r}), output={str(tmp_path / "out")!r},
                inputs=[FileDataset({str(tmp_path / "items")!r})],
            )
        """
    )
    yield file
    file.remove()


def run(dag_file, tmp_path, mark):
    """Run the DAG with a script that marks its rows, and return the rows and how often each item ran so far."""
    dag_file.script(COUNTING.format(ran=str(tmp_path / "ran"), mark=mark))
    ended = dag_file.run(logical_date=DATE)
    assert ended.state == "success", ended.states
    rows = (tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines()
    return rows, Counter((tmp_path / "ran").read_text().splitlines())


@pytest.mark.parametrize("mark", [" new", " old"], ids=["a changed script", "the same script"])
def test_the_same_date_starts_over_once_it_has_published(dag_file, tmp_path, mark):
    run(dag_file, tmp_path, " old")
    rows, ran = run(dag_file, tmp_path, mark)
    assert rows == [f"{name}{mark}" for name in NAMES]
    assert ran == dict.fromkeys(NAMES, 2)


FAILING = """
import pathlib

def run(mini_batch):
    with open({ran!r}, "a") as file:
        file.writelines(pathlib.Path(path).name + "\\n" for path in mini_batch)
    if pathlib.Path({broken!r}).exists() and any(path.endswith("2") for path in mini_batch):
        raise ValueError("the service is down")
    return [pathlib.Path(path).name for path in mini_batch]
"""


def test_the_same_date_continues_what_has_failed(dag_file, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    dag_file.script(FAILING.format(ran=str(tmp_path / "ran"), broken=str(broken)))
    assert dag_file.run(logical_date=DATE).state == "failed"
    broken.unlink()
    assert dag_file.run(logical_date=DATE).state == "success"
    assert (tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines() == NAMES
    ran = Counter((tmp_path / "ran").read_text().splitlines())
    assert (ran["0"], ran["1"], ran["2"]) == (1, 1, 2)


def test_the_same_date_continues_with_more_nodes(dag_file, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    dag_file.script(FAILING.format(ran=str(tmp_path / "ran"), broken=str(broken)))
    assert dag_file.run(logical_date=DATE).state == "failed"
    broken.unlink()
    file = dag_file.folder / "dag.py"
    file.write_text(
        file.read_text().replace("'node_count': 1", "'node_count': 3").replace("'lend': False", "'lend': True")
    )
    second = dag_file.run(logical_date=DATE)
    assert second.state == "success", second.states
    assert [second.states.get(f"step.mini_batches[{number}]") for number in range(4)] == ["success"] * 3 + [None]
    assert (tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines() == NAMES
    assert Counter((tmp_path / "ran").read_text().splitlines())["2"] == 2
