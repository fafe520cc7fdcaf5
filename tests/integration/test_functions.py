"""Whole runs of functions in a DAG file, as `airflow dags test` does them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dag_runs import result_of

ALL = "".join(f"item {number}\n" for number in range(10))


@pytest.fixture
def items(tmp_path):
    """Ten files with a line each."""
    folder = tmp_path / "items"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.txt").write_text(f"item {number}")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


def folder_of(run, task_id):
    return Path(run.xcom(f"{task_id}.plan", key="plan")["folder"])


def failures_of(run, task_id):
    return json.loads((folder_of(run, task_id) / "report.json").read_text())["failures"]


def line_of(dag_file, text):
    """Number of the one line of the DAG file that holds a text."""
    lines = (dag_file.folder / "dag.py").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, start=1) if text in line)
    return number


def test_a_function_runs_as_an_entry_script_does(dag_file, items, output):
    dag_file.write(
        f"""
        @parallel_run(inputs={str(items / "*.txt")!r}, output={str(output)!r}, mini_batch_size=2, node_count=2)
        def read(mini_batch):
            from pathlib import Path

            return [Path(path).read_text() for path in mini_batch]

        @task
        def show(location):
            return open(location).read()

        with DAG("function") as dag:
            show(read())
        """
    )
    run = dag_file.run()
    assert run.state == "success"
    assert run.xcom("show") == ALL
    assert set(run.states) == {
        "read.plan", "read.mini_batches[0]", "read.mini_batches[1]", "read.gatekeeper", "read.merge", "show",
    }  # fmt: skip


def test_functions_share_globals_and_get_values_from_the_call(dag_file, items, output):
    dag_file.script("WORD = 'helped'", "helper.py")
    (items.parent / "model.txt").write_text("mosaic")
    dag_file.write(
        f"""
        def load(model, factor=3):
            global text
            from pathlib import Path

            text = Path(model).read_text() * factor

        def tell():
            print("the model was", text)

        @task
        def give(value):
            return value

        @parallel_run(init=load, shutdown=tell, source_directory="scripts", process_count_per_node=1)
        def score(mini_batch, mini_batch_context, words, limit: PipelineParameter = 2, *, sep="-"):
            from helper import WORD

            assert words == {{"a": [1, None, True, "run", 0.5]}}, words
            return [f"{{WORD}} {{text}} {{limit}}{{sep}}{{mini_batch_context.minibatch_index}}"] * len(mini_batch)

        with DAG("shared_globals") as dag:
            model = FileDataset({str(items.parent / "model.txt")!r})
            score(
                inputs=give({[str(items / "0.txt"), str(items / "1.txt")]!r}),
                side_inputs=[model],
                output=give.override(task_id="output")({str(output)!r}),
                arguments=["--unused", give.override(task_id="argument")(3)],
                words={{"a": give.override(task_id="words")([1, None, True, "run", 0.5])}},
                limit=PipelineParameter("limit", 5),
                model=model,
            )
        """
    )
    run = dag_file.run({"limit": 7})
    assert run.state == "success"
    assert result_of(output) == "helped mosaicmosaicmosaic 7-0\n" * 2
    (printed,) = (folder_of(run, "score") / "logs" / "user" / "stdout").rglob("*.txt")
    assert printed.read_text() == "the model was mosaicmosaicmosaic\n"


def test_a_traceback_shows_the_dag_file_with_its_lines(dag_file, items, output):
    dag_file.write(
        f"""
        with DAG("traceback") as dag:
            @parallel_run(
                inputs={str(items)!r}, output={str(output)!r},
                mini_batch_size=2, run_max_try=1, retries=0,
            )
            # The source stands further to the right than in a script, and below a decorator of several lines.
            def fails(mini_batch, factor):
                def divide(path):
                    return len(path) / (factor - 1)  # fails here

                return [divide(path) for path in mini_batch]

            fails(factor=1)
        """
    )
    run = dag_file.run()
    assert run.state == "failed"
    (failure, *_) = failures_of(run, "fails")
    traceback = failure["traceback"].splitlines()
    file, line = dag_file.folder / "dag.py", line_of(dag_file, "# fails here")
    assert traceback[1] == f'  File "{file}", line {line + 2}, in fails'
    assert f'  File "{file}", line {line}, in divide' in traceback
    assert "    return len(path) / (factor - 1)  # fails here" in traceback
    assert "parallel_run_fails.py" not in failure["traceback"]
    assert traceback[-1] == "ZeroDivisionError: division by zero"
    recorded = json.loads((folder_of(run, "fails") / "failed_items.jsonl").read_text().splitlines()[0])
    assert f'File "{file}", line {line}, in divide' in json.dumps(recorded).replace('\\"', '"')


def test_a_function_that_only_moves_in_its_file_is_the_same_work(dag_file, items, output):
    source = f"""
        @parallel_run(inputs={str(items)!r}, output={str(output)!r} + "/{{{{ run_id }}}}", process_count_per_node=1)
        def score(mini_batch, threshold):
            return [f"over {{threshold}}"] * len(mini_batch)

        with DAG("moves") as dag:
            score(threshold=0.5)
    """
    dag_file.write(source)
    first = dag_file.run()
    dag_file.write(f"\n        # a line above\n{source}")
    second = dag_file.run()
    assert (first.state, second.state) == ("success", "success")
    assert second.states["score.mini_batches"] == "skipped"
    assert Path(second.xcom("score.merge")).read_text() == "over 0.5\n" * 10


def test_steps_stand_in_groups_and_shifts_like_any_operator(dag_file, items, output):
    dag_file.write(
        f"""
        @task
        def write():
            open({str(items / "10.txt")!r}, "w").write("item 10")

        @task.parallel_run
        async def score(mini_batch):
            return [open(path).read() for path in mini_batch]

        with DAG("shifts") as dag:
            with TaskGroup("outer"):
                first = score(inputs=[{str(items)!r}], output={str(output / "1")!r})
                second = score(inputs=first, output={str(output / "2")!r})
            third = score.override(task_id="third", error_threshold=-1)(inputs=first, output={str(output / "3")!r})
            write() >> first
            chain(second, Label("then"), third)
        """
    )
    run = dag_file.run()
    assert run.state == "success"
    assert result_of(output / "1") == "item 0\nitem 1\nitem 10\n" + ALL.split("\n", 2)[2]
    assert result_of(output / "2") == result_of(output / "3") == result_of(output / "1") + "\n"
    assert {"outer.score.merge", "outer.score__1.merge", "third.merge"} <= set(run.states)
