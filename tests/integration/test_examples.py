"""Every example DAG runs as a user would run it, and gives what its entry script gives in a plain loop."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Run the airflow command in a home of its own, whose DAGs are the examples."""
    home = tmp_path_factory.mktemp("airflow_home")
    foreign = {name for name in os.environ if name.startswith("AIRFLOW")}
    environment = {name: value for name, value in os.environ.items() if name not in foreign} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    }

    def run(*arguments, code=0):
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(
            command, check=False, env=environment, cwd=home, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stdout[-5000:] + done.stderr[-5000:]

    run("db", "migrate")
    return run


@pytest.fixture
def entry_script(monkeypatch):
    """Load an entry script as the plain loop does: as a module, its arguments in sys.argv, init() called."""

    def load(path, *arguments):
        spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / "scripts" / path)
        script = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        spec.loader.exec_module(script)
        script.init()
        return script

    return load


def run_example(airflow, dag_id, folder, code=0, **params):
    airflow("dags", "test", dag_id, "--conf", json.dumps({"folder": str(folder), **params}), code=code)


def test_the_digits_are_read_as_in_a_plain_loop(airflow, entry_script, tmp_path):
    run_example(airflow, "example_digits", tmp_path, node_count=3, mini_batch_size=100)
    script = entry_script("digits/read_digits.py", "--model", tmp_path / "model" / "classifier.pickle")
    scans = sorted(str(path) for path in (tmp_path / "scans").iterdir())
    lines = [line for first in range(0, len(scans), 100) for line in script.run(scans[first : first + 100])]
    assert len(lines) == 1797
    assert (tmp_path / "result" / "digits.txt").read_bytes() == "".join(f"{line}\n" for line in lines).encode()


def test_the_example_of_object_storage_does_the_same_on_any_storage(airflow, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, text in {"a.txt": "one three seven", "b.txt": "a longer text with words"}.items():
        (texts / name).write_text(text)
    run_example(airflow, "example_object_storage", tmp_path, shortest=5)
    assert (tmp_path / "result" / "parallel_run_step.txt").read_text() == "a.txt 2\nb.txt 2\n"


def test_the_words_are_counted_as_in_a_plain_loop(airflow, tmp_path):
    run_example(airflow, "example_function", tmp_path, top=2)
    lines = []
    for path in sorted(Path(json.__file__).parent.glob("*.py")):
        words = Counter(re.findall(r"[a-z]{4,}", path.read_text(encoding="utf-8").lower()))
        lines.append(" ".join([path.name, *(word for word, _ in words.most_common(2))]))
    assert (tmp_path / "result" / "parallel_run_step.txt").read_text().splitlines() == lines


def test_an_aborted_run_sends_one_alert_that_says_why(airflow, tmp_path):
    run_example(airflow, "example_alert", tmp_path, allowed=0, code=1)
    [line] = (tmp_path / "alerts.txt").read_text().splitlines()
    assert line.startswith("double.gatekeeper aborted: 1 of 3 items failed, error_threshold allows 0; see ")


@pytest.mark.slow
def test_a_completed_run_sends_an_alert_for_its_failed_items(airflow, tmp_path):
    run_example(airflow, "example_alert", tmp_path)
    [line] = (tmp_path / "alerts.txt").read_text().splitlines()
    assert line.startswith("double.merge completed, 1 of 3 items failed; see ")


@pytest.mark.slow
def test_failed_items_take_the_branch_to_a_person(airflow, tmp_path):
    run_example(airflow, "example_branch", tmp_path)
    [questions] = tmp_path.rglob("questions.txt")
    assert questions.read_text() == "completed, 1 of 5 items failed: please look at the letters\n"


@pytest.mark.slow
def test_the_irises_are_classified_as_in_a_plain_loop(airflow, entry_script, tmp_path):
    run_example(airflow, "example_iris", tmp_path)
    script = entry_script("iris/classify.py", "--model", tmp_path / "model" / "classifier.pickle")
    irises = pd.read_csv(tmp_path / "iris.csv")
    parts = [script.run(irises[first : first + 25].reset_index(drop=True)) for first in range(0, len(irises), 25)]
    rows = "".join(part.to_csv(sep=" ", header=False, index=False) for part in parts)
    assert rows.count("\n") == 150
    assert (tmp_path / "result" / "irises.txt").read_bytes() == rows.encode()


@pytest.mark.slow
def test_the_many_models_are_those_of_a_plain_loop(airflow, entry_script, tmp_path, monkeypatch):
    run_example(airflow, "example_many_models", tmp_path)
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(tmp_path / "plain"))
    script = entry_script("many_models/train_group.py")
    for path in sorted((tmp_path / "patients").rglob("*.csv")):
        group = {"sex": path.parent.name, "decade": path.stem}
        script.run([str(path)], SimpleNamespace(partition_key_value=group))
    models = stored_models(tmp_path / "result")
    assert len(models) == 13
    assert models == stored_models(tmp_path / "plain")


def stored_models(output):
    return {path.name: path.read_bytes() for path in (output / "models").iterdir()}
