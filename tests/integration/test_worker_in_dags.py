"""What entry scripts may count on, in whole runs as `airflow dags test` does them."""

from __future__ import annotations

import json
import pstats
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from tests.dag_runs import result_of

ORIGINAL = '''
    """Written for the original."""

    import argparse
    import os
    import pickle

    from azureml.core import Model, Run
    from azureml.core.run import Run as SameRun
    from azureml_user.parallel_run import EntryScript


    def init():
        global classes, labels, logger, model, threshold
        parser = argparse.ArgumentParser(description="Scores texts.")
        parser.add_argument("--model_name", dest="model_name", required=True)
        parser.add_argument("--threshold", dest="threshold", type=float, default=0.5)
        parser.add_argument("--labels", dest="labels", required=True)
        args, _ = parser.parse_known_args()
        with open(Model.get_model_path(args.model_name), "rb") as file:
            model = pickle.load(file)
        with open(os.path.join(args.labels, "labels.txt")) as file:
            labels = file.read().split()
        with open(os.environ["CLASSES"]) as file:
            classes = file.read().split()
        threshold = args.threshold
        logger = EntryScript().logger
        logger.info("model %s loaded", args.model_name)
        assert SameRun is Run


    def run(mini_batch):
        run_context = Run.get_context()
        run_context.log("mini_batch_size", len(mini_batch))
        results = []
        for path in mini_batch:
            score = model[os.path.basename(path)]
            results.append(f"{os.path.basename(path)}: {labels[score > threshold]} {classes[0]}")
        logger.info("%d texts scored", len(results))
        return results
'''


@pytest.fixture
def items(tmp_path):
    """Four files with a line each."""
    folder = tmp_path / "items"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"item {number}")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


def one_step(dag_id, inputs, output, *, step="", config=""):
    return f"""
        with DAG({dag_id!r}) as dag:
            step = ParallelRunOperator(
                task_id="step", parallel_run_config=config({config}), inputs={inputs}, output={str(output)!r}, {step}
            )
    """


def logs_of(run, kind):
    """The text of all logs of one kind."""
    folder = Path(run.xcom("step.plan", key="plan")["folder"], "logs", "user", kind)
    return "".join(path.read_text() for path in sorted(folder.rglob("*.txt")))


def progress_of(run, task_id):
    """What Airflow's task state store holds of a shard's progress."""
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(TaskStateStoreModel.value).filter_by(
            dag_id=run.dag_id, run_id=run.run_id, task_id=task_id, key="progress"
        )
        return json.loads(session.scalars(query).one())


@pytest.mark.skipif(
    Version(version("apache-airflow-core")) < Version("3.3"), reason="the task state store came with Airflow 3.3"
)
def test_the_state_store_of_a_running_task_tells_how_far_it_is(dag_file, items, output, monkeypatch):
    monkeypatch.setattr("airflow_prs.node.reporting._PROGRESS_S", 0.2)
    dag_file.script("import time\ndef run(mini_batch): time.sleep(0.5); return mini_batch\n")
    files = f"[FileDataset({str(items)!r}).as_named_input('texts')]"
    dag_file.write(
        one_step("progress", files, output, config="mini_batch_size=1, node_count=1, process_count_per_node=1")
    )

    run = dag_file.run()

    progress = progress_of(run, "step.mini_batches")
    assert (progress["total"], progress["failed"]) == (4, 0)
    assert 0 < progress["done"] == 4 - progress["left"]


def test_a_script_of_the_original_runs_unmodified(dag_file, items, output, tmp_path):
    import pickle

    side = tmp_path / "side"
    (side / "labels").mkdir(parents=True)
    (side / "mosaic.pkl").write_bytes(pickle.dumps({"0.txt": 0.1, "1.txt": 0.9, "2.txt": 0.3, "3.txt": 0.8}))
    (side / "labels" / "labels.txt").write_text("low\nhigh\n")
    (side / "classes.txt").write_text("texts\n")
    dag_file.script(ORIGINAL)
    dag_file.write(
        f"""
        side = {str(side)!r}
        labels = FileDataset(side + "/labels").as_named_input("labels")
        model = FileDataset(side + "/mosaic.pkl").as_named_input("mosaic-prs.v2")
        classes = FileDataset(side + "/classes.txt").as_named_input("classes")
        with DAG("original") as dag:
            step = ParallelRunOperator(
                name="step",
                parallel_run_config=config(environment_variables={{"CLASSES": classes}}),
                inputs=[FileDataset({str(items)!r}).as_named_input("texts")],
                side_inputs=[labels, model, classes],
                output={str(output)!r},
                arguments=["--model_name", "mosaic-prs.v2", "--labels", labels, "--threshold", 0.5],
            )
        """
    )
    run = dag_file.run()
    assert run.state == "success"
    assert result_of(output) == "0.txt: low texts\n1.txt: high texts\n2.txt: low texts\n3.txt: high texts\n"
    assert "mini_batch_size 2" in logs_of(run, "stderr")


def test_the_log_of_the_script_is_written_with_secrets_masked(dag_file, items, output):
    dag_file.script(
        """
        import os
        from entry_script import EntryScript

        def run(mini_batch):
            for path in mini_batch:
                EntryScript().logger.info("%s with %s", os.path.basename(path), os.environ["TOKEN"])
            return mini_batch
        """
    )
    config = 'environment_variables={"TOKEN": "swordfish-42"}, node_count=1'
    dag_file.write(one_step("masked", f"[FileDataset({str(items)!r})]", output, config=config))
    run = dag_file.run()
    log = logs_of(run, "entry_script_log")
    assert [line.split("INFO ")[1] for line in log.splitlines()] == [f"{number}.txt with ***" for number in range(4)]


@pytest.mark.parametrize("inputs", [None, []])
def test_mini_batches_may_come_without_any_input(dag_file, output, inputs):
    dag_file.script(
        """
        def run(mini_batch, mini_batch_context):
            return [f"{mini_batch} {mini_batch_context.minibatch_index}"]
        """
    )
    step = 'arguments=["--rank_mini_batch_count", PipelineParameter("ranks", 2)]'
    dag_file.write(one_step(f"ranks_{inputs is None}", inputs, output, step=step))
    run = dag_file.run({"ranks": 3})
    assert run.state == "success"
    assert result_of(output) == "[] 0\n[] 1\n[] 2\n"


def test_a_failed_mini_batch_without_any_input_is_reported(dag_file, output):
    dag_file.script("def run(mini_batch, mini_batch_context): return [1 // mini_batch_context.minibatch_index]")
    step = 'arguments=["--rank_mini_batch_count", "3"]'
    dag_file.write(one_step("failed_rank", None, output, step=step, config="run_max_try=1"))
    run = dag_file.run()
    assert run.state == "success"
    assert result_of(output) == "1\n0\n"


def test_no_inputs_without_ranks_fail_the_plan(dag_file, output):
    step = 'arguments=["--rank_mini_batch_count", PipelineParameter("ranks", 2)], on_empty="skip"'
    dag_file.write(one_step("no_ranks", None, output, step=step))
    assert dag_file.run({"ranks": 0}).states["step.plan"] == "failed"


def test_an_asynchronous_script_works_on_several_mini_batches_at_once(dag_file, items, output):
    dag_file.script(
        """
        import asyncio, pathlib

        async def init():
            global meeting, arrived
            meeting, arrived = asyncio.Event(), []

        async def run(mini_batch):
            arrived.extend(mini_batch)
            if len(arrived) > 1:
                meeting.set()
            await meeting.wait()
            return [pathlib.Path(path).read_text() for path in mini_batch]
        """
    )
    config = "max_concurrency_per_process=4, node_count=1, mini_batch_size=1, run_max_try=1, run_invocation_timeout=20"
    dag_file.write(one_step("asynchronous", f"[FileDataset({str(items)!r})]", output, config=config))
    assert dag_file.run().state == "success"
    assert result_of(output) == "item 0\nitem 1\nitem 2\nitem 3\n"


def test_profiles_stand_among_the_logs(dag_file, items, output):
    step = 'arguments=["--profiling_module", "cProfile"]'
    dag_file.write(one_step("profiled", f"[FileDataset({str(items)!r})]", output, step=step, config="node_count=1"))
    run = dag_file.run()
    folder = Path(run.xcom("step.plan", key="plan")["folder"], "logs")
    (profile,) = [path for path in folder.rglob("*") if path.is_file() and "prof" in path.name]
    names = {name for file, _, name in pstats.Stats(str(profile)).stats if file.endswith("score.py")}
    assert "run" in names


def test_an_init_that_cannot_succeed_costs_one_attempt_and_the_error_has_the_reason(dag_file, items, output, tmp_path):
    dag_file.script(
        f"""
        import argparse

        def init():
            open({str(tmp_path / "calls")!r}, "a").write("x")
            parser = argparse.ArgumentParser()
            parser.add_argument("--model", required=True)
            parser.parse_known_args()

        def run(mini_batch):
            return mini_batch
        """
    )
    dag_file.write(one_step("hopeless", f"[FileDataset({str(items)!r})]", output, config="node_count=1"))
    run = dag_file.run()
    assert (run.state, (tmp_path / "calls").read_text()) == ("failed", "x")
    assert "the following arguments are required: --model" in run.xcom("step.mini_batches", key="error")
