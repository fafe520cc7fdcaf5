"""Whole runs, as `airflow dags test` does them."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_prs.run_folder.folder import RunFolder
from tests.dag_runs import result_of

CALLS_BACK = Version(version("apache-airflow-core")) >= Version("3.3")
"""Whether dag.test() calls callbacks, and sends e-mails."""
ALL = "".join(f"item {number}\n" for number in range(10))

FAILS_AT_3 = """
    import pathlib

    def run(mini_batch):
        texts = [pathlib.Path(path).read_text() for path in mini_batch]
        if "item 3" in texts:
            raise ValueError("bad pixel")
        return texts
"""


@pytest.fixture
def items(tmp_path):
    """Ten files with a line each, in a folder whose name is a trial."""
    folder = tmp_path / 'ten it\'s "ïtems"'
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.txt").write_text(f"item {number}")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "the öutput"


def report_of(run, task_id="step"):
    folder = run.xcom(f"{task_id}.plan", key="plan")["folder"]
    return json.loads(Path(folder, "report.json").read_text())


def is_reuse(run):
    """Whether plan found nothing to do, and merge took the rows of an earlier run."""
    return run.states.get("step.mini_batches") == "skipped" and run.states["step.merge"] == "success"


def one_step(dag_id, items, output, *, step="", config="", dag=""):
    return f"""
        with DAG({dag_id!r}, {dag}) as dag:
            step = ParallelRunOperator(
                task_id="step", parallel_run_config=config({config}), inputs=[FileDataset({str(items)!r})],
                output={str(output)!r}, {step}
            )
    """


def extras_of(run):
    """Return what the asset events of a run tell besides the asset."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_dag_id == run.dag_id))
        return [event.extra for event in events]


def test_a_run_publishes_the_rows_in_input_order(dag_file, items, output):
    dag_file.write(one_step("in_order", items, output))
    run = dag_file.run()
    assert run.state == "success"
    assert result_of(output) == ALL
    assert run.states == {
        "step.plan": "success",
        "step.mini_batches[0]": "success",
        "step.mini_batches[1]": "success",
        "step.gatekeeper": "success",
        "step.merge": "success",
    }


def test_the_location_of_the_result_feeds_the_next_task(dag_file, items, output):
    source = one_step("feeds", items, output)
    dag_file.write(
        source
        + """
            @task
            def publish(location):
                return open(location).read()

            step >> Label("publish") >> publish(step.output)
        """
    )
    assert dag_file.run().xcom("publish") == ALL


def test_a_failed_item_within_the_limits_is_left_out_and_reported(dag_file, items, output):
    dag_file.script(FAILS_AT_3)
    dag_file.write(one_step("within_limits", items, output, config="error_threshold=2, run_max_try=2"))
    run = dag_file.run()
    assert run.state == "success"
    assert result_of(output) == ALL.replace("item 2\nitem 3\n", "")
    assert report_of(run)["mini_batches"] == {"total": 5, "succeeded": 4, "failed": 1, "not_tried": 0}


def test_an_exceeded_threshold_aborts_the_run_and_publishes_nothing(dag_file, items, output, capsys):
    dag_file.script(FAILS_AT_3)
    dag_file.write(one_step("aborted", items, output, config="error_threshold=1, run_max_try=1"))
    run = dag_file.run()
    assert run.state == "failed"
    assert run.states["step.gatekeeper"] == "failed"
    assert run.states["step.merge"] == "upstream_failed"
    assert not (output / "parallel_run_step.txt").exists()
    report = report_of(run)
    assert report["status"] == "aborted"
    assert "bad pixel" in report["failures"][0]["traceback"]
    summary = run.xcom("step.gatekeeper", key="summary")
    cause = "2 of 10 items failed, error_threshold allows 1"
    assert (summary["status"], summary["headline"]) == ("aborted", f"aborted: {cause}")
    shown = capsys.readouterr().out
    # The details are in the error of gatekeeper alone, and what it advises is possible here.
    assert shown.count(f"The run was aborted and nothing is published: {cause}.") == 1
    assert shown.count("What to do next:") == 1
    with_work_left = [run.states[f"step.mini_batches[{number}]"] for number in range(2)].count("failed")
    assert shown.count(f"The run was aborted: {cause}. The error of gatekeeper has the details.") == with_work_left
    assert "airflow dags test aborted 20" in shown
    assert 'File "scripts/score.py"' in shown
    assert "airflow_prs-node-" not in shown


@pytest.mark.filterwarnings("ignore:Setting email")
@pytest.mark.skipif(not CALLS_BACK, reason="calls none")
def test_one_abort_is_one_message(dag_file, items, output, tmp_path, monkeypatch):
    told = tmp_path / "told"
    (tmp_path / "sent_by_test.py").write_text(
        f"send = lambda to, subject, *_, **__: print(to, subject, file=open({str(told)!r}, 'a'))"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AIRFLOW__EMAIL__EMAIL_BACKEND", "sent_by_test.send")
    callback = f"on_failure_callback=lambda context: print('callback', context['ti'], file=open({str(told)!r}, 'a'))"
    dag_file.script(FAILS_AT_3)
    dag_file.write(
        one_step(
            "one_message",
            items,
            output,
            config="error_threshold=0, run_max_try=1",
            step=f"email='us@example.org', {callback}",
        )
    )

    run = dag_file.run()

    assert run.states["step.mini_batches[1]"] == run.states["step.gatekeeper"] == "failed"
    messages = told.read_text().splitlines()
    assert [message.split()[0].strip("'[]") for message in messages] == ["callback", "us@example.org"]
    assert all("step.gatekeeper" in message for message in messages)


def test_a_script_that_never_starts_fails_the_run_as_incomplete(dag_file, items, output):
    dag_file.script("def init():\n    raise OSError('no model')\n\ndef run(mini_batch):\n    return mini_batch\n")
    dag_file.write(one_step("never_starts", items, output, step="retries=0"))
    run = dag_file.run()
    assert run.states["step.mini_batches[0]"] == "failed"
    assert run.states["step.gatekeeper"] == "failed"
    assert run.states["step.merge"] == "upstream_failed"
    assert report_of(run)["status"] == "failed"


def test_a_run_goes_on_without_reuse_if_the_xcom_of_the_one_before_is_of_another_kind(dag_file, items, tmp_path):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    dag_file.write(one_step("another_kind", items, f"{tmp_path}/out/{{{{ run_id }}}}"))
    first = dag_file.run()
    with create_session() as session:
        left = update(XComModel).where(XComModel.run_id == first.run_id, XComModel.key == "plan")
        session.execute(left.values(value="step.plan/plan.json"))
    second = dag_file.run()
    assert (first.state, second.state, is_reuse(second)) == ("success", "success", False)
    assert is_reuse(dag_file.run())


def test_an_equal_run_reuses_the_rows_of_the_one_before(dag_file, items, tmp_path):
    dag_file.write(one_step("reuses", items, f"{tmp_path}/out/{{{{ run_id }}}}"))
    first, second = dag_file.run(), dag_file.run()
    assert first.state == second.state == "success"
    assert is_reuse(second)
    assert Path(second.xcom("step.merge")).read_text() == ALL
    assert first.xcom("step.merge") != second.xcom("step.merge")


def test_a_failed_run_does_not_break_the_chain_of_reuse(dag_file, items, tmp_path):
    dag_file.script(
        """
        import sys

        def run(mini_batch):
            if sys.argv[2] == "yes":
                raise ValueError
            return [path[-5] for path in mini_batch]
        """
    )
    arguments = 'arguments=["--fail", "{{ dag_run.conf.fail }}"]'
    limits = "error_threshold=0, run_max_try=1"
    dag_file.write(one_step("chain", items, f"{tmp_path}/out/{{{{ run_id }}}}", step=arguments, config=limits))
    runs = [dag_file.run({"fail": fail}) for fail in ("no", "yes", "no")]
    assert [run.state for run in runs] == ["success", "failed", "success"]
    assert is_reuse(runs[2])


def test_an_empty_input_fails_the_run(dag_file, tmp_path, output):
    dag_file.write(one_step("empty", tmp_path / "*.none", output))
    run = dag_file.run()
    assert run.states["step.plan"] == "failed"
    assert run.states["step.merge"] == "upstream_failed"


def test_on_empty_skip_skips_the_whole_step(dag_file, tmp_path, output):
    dag_file.write(one_step("empty_skips", tmp_path / "*.none", output, step='on_empty="skip"'))
    run = dag_file.run()
    assert run.state == "success"
    assert set(run.states.values()) == {"skipped"}


def test_a_skipped_upstream_skips_the_whole_step(dag_file, items, output):
    dag_file.write(
        one_step("skipped_upstream", items, output)
        + """
            @task.short_circuit
            def is_wanted():
                return False

            is_wanted() >> step
        """
    )
    run = dag_file.run()
    assert {state for task_id, state in run.states.items() if task_id.startswith("step.")} == {"skipped"}


def test_a_trigger_rule_given_to_the_step_is_that_of_plan(dag_file, items, output):
    dag_file.write(
        one_step("own_rule", items, output, step='trigger_rule="all_done"')
        + """
            @task
            def fails():
                raise ValueError

            fails() >> step
        """
    )
    run = dag_file.run()
    assert run.states["step.merge"] == "success"


def test_default_args_of_the_dag_break_nothing(dag_file, items, output):
    default_args = 'default_args={"trigger_rule": "one_failed", "depends_on_past": True, "wait_for_downstream": True}'
    dag_file.write(one_step("default_args", items, output, dag=default_args + ", catchup=False"))
    assert dag_file.run().state == "success"


def test_what_another_task_returns_may_stand_anywhere(dag_file, items, output, tmp_path):
    dag_file.script(
        """
        import os, pathlib, sys

        def run(mini_batch):
            side = pathlib.Path(sys.argv[4]).read_text()
            return [f"{sys.argv[2]} {side} {os.environ['WHO']} {pathlib.Path(path).stem}" for path in mini_batch]
        """
    )
    (tmp_path / "side.txt").write_text("labels")
    one, zero = str(items / "1.txt"), str(items / "0.txt")
    dag_file.write(
        f"""
        with DAG("xcoms") as dag:
            @task
            def give(value):
                return value

            side = FileDataset(give.override(task_id="side")({str(tmp_path / "side.txt")!r})).as_named_input("side")
            ParallelRunOperator(
                task_id="step",
                parallel_run_config=config(environment_variables={{"WHO": give.override(task_id="who")("me")}}),
                inputs=[FileDataset(give.override(task_id="items")([{one!r}, {zero!r}]))],
                side_inputs=[side],
                output=give.override(task_id="output")({str(output)!r}),
                arguments=["--word", give.override(task_id="word")("hello"), "--side", side],
            )
        """
    )
    assert dag_file.run().state == "success"
    assert result_of(output) == "hello labels me 0\nhello labels me 1\n"


def test_environment_variables_are_rendered_and_never_stored(dag_file, items, output):
    dag_file.script("import os\n\ndef run(mini_batch):\n    return [os.environ['TOKEN']] * len(mini_batch)\n")
    dag_file.write(
        one_step("variables", items, output, config='environment_variables={"TOKEN": "s3cr3t-{{ dag.dag_id }}"}')
    )
    run = dag_file.run()
    assert result_of(output) == "s3cr3t-variables\n" * 10
    folder = Path(run.xcom("step.plan", key="plan")["folder"])
    stored = [path.read_bytes() for path in folder.rglob("*.json*")]
    assert stored
    assert not any(b"s3cr3t" in content for content in stored)


def test_a_run_may_choose_its_parameters(dag_file, items, output):
    dag_file.write(
        one_step(
            "parameters", items, output, config='node_count=PipelineParameter("nodes", default_value=1, maximum=4)'
        )
    )
    run = dag_file.run({"nodes": 3})
    assert run.states["step.mini_batches[2]"] == "success"
    assert result_of(output) == ALL


def test_two_steps_share_a_parameter_of_the_same_name(dag_file, items, output):
    dag_file.write(
        f"""
        with DAG("shared") as dag:
            for name in ("one", "two"):
                ParallelRunOperator(
                    task_id=name,
                    parallel_run_config=config(mini_batch_size=PipelineParameter("size", default_value=5)),
                    inputs=[FileDataset({str(items)!r})],
                    output={str(output)!r} + "/" + name,
                )
        """
    )
    run = dag_file.run({"size": 1})
    assert run.xcom("one.plan", key="plan")["mini_batches"] == 10
    assert run.xcom("two.plan", key="plan")["mini_batches"] == 10
    assert result_of(output / "one") == result_of(output / "two") == ALL


def test_a_step_inside_another_task_group_runs(dag_file, items, output):
    dag_file.write(
        f"""
        with DAG("nested") as dag:
            with TaskGroup("outer"), TaskGroup("inner"):
                step = ParallelRunOperator(
                    task_id="step", parallel_run_config=config(), inputs=[FileDataset({str(items)!r})],
                    output={str(output)!r},
                )
        """
    )
    run = dag_file.run()
    assert run.states["outer.inner.step.merge"] == "success"
    assert result_of(output) == ALL


def test_the_longest_ids_that_airflow_takes_run(dag_file, items, output):
    step = "s" * 200
    source = one_step("d" * 250, items, output).replace('task_id="step"', f'task_id="{step}"')
    dag_file.write(source)
    assert dag_file.run().state == "success"
    assert result_of(output) == ALL


def test_a_mini_batch_may_be_a_task_of_its_own(dag_file, items, output):
    dag_file.write(one_step("own_tasks", items, output, config="mini_batches_per_task=1"))
    run = dag_file.run()
    assert len(run.states) == 5 + 3
    assert result_of(output) == ALL


def test_a_script_may_store_its_output_itself(dag_file, items, output):
    dag_file.script(
        """
        import os, pathlib

        def run(mini_batch):
            for path in map(pathlib.Path, mini_batch):
                pathlib.Path(os.environ["AZUREML_BI_OUTPUT_PATH"], path.name).write_text(path.read_text().upper())
            return mini_batch
        """
    )
    dag_file.write(
        f"""
        with DAG("stores") as dag:
            ParallelRunOperator(
                task_id="step", parallel_run_config=config(output_action="summary_only"),
                inputs=[FileDataset({str(items)!r})],
            )
        """
    )
    run = dag_file.run()
    assert sorted(path.name for path in Path(run.xcom("step.merge")).iterdir()) == [f"{n}.txt" for n in range(10)]


@pytest.mark.slow
def test_a_shard_that_exceeds_its_execution_timeout_goes_on_with_the_next_try(dag_file, items, output):
    dag_file.script(
        """
        import pathlib, time

        def run(mini_batch):
            time.sleep(0.7)
            return [pathlib.Path(path).read_text() for path in mini_batch]
        """
    )
    step = 'execution_timeout=__import__("datetime").timedelta(seconds=4), retry_delay=0'
    dag_file.write(one_step("too_slow", items, output, step=step, config="node_count=1, mini_batch_size=1"))

    run = dag_file.run()

    assert run.state == "success"
    assert result_of(output) == ALL
    folder = RunFolder(run.xcom("step.plan", key="plan")["folder"])
    assert folder.read_shard(folder.read_manifest().shards[0]).claim.try_number > 1


def test_a_shard_that_exceeds_its_execution_timeout_says_so(dag_file, items, output):
    dag_file.script("import time\ndef run(mini_batch): time.sleep(60)")
    told = output.parent / "told"
    limit = "execution_timeout=__import__('datetime').timedelta(seconds=3)"
    callback = f"on_failure_callback=lambda context: open({str(told)!r}, 'a').write(repr(context['exception']) + '\\n')"
    step = f"retries=0, {limit}, {callback}"
    dag_file.write(one_step("timeout_told", items, output, step=step, config="node_count=1"))

    run = dag_file.run()

    assert run.states["step.mini_batches[0]"] == "failed"
    assert "execution_timeout of 3 seconds is over" in run.xcom("step.mini_batches", key="error")
    if CALLS_BACK:
        of_shard, of_gatekeeper = told.read_text().splitlines()
        assert of_shard.startswith("AirflowTaskTimeout('Timeout")
        assert "shard 0: execution_timeout of 3 seconds is over" in of_gatekeeper


def test_a_task_that_is_tested_alone_says_how_to_try_it(dag_file, items, output, capfd):
    from airflow.cli.cli_parser import get_parser

    def test_alone(*arguments):
        arguments = get_parser().parse_args(["tasks", "test", "alone", *arguments])
        arguments.func(arguments)
        # Without colors.
        return re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().out)

    dag_file.write(one_step("alone", items, output))
    run = dag_file.run()
    (output / "parallel_run_step.txt").unlink()
    for arguments in (["step.mini_batches", "--map-index", "0"], ["step.gatekeeper"], ["step.merge"]):
        assert "step.plan has left no run folder in this run. `airflow tasks test`" in test_alone(*arguments)
    assert "new_state=success" in test_alone("step.mini_batches", run.run_id, "--map-index", "0")
    test_alone("step.merge", run.run_id)
    assert result_of(output) == ALL


def test_the_conf_of_a_run_names_paths_line_by_line_and_no_misspelled_parameter(dag_file, items, output):
    dag_file.write(
        f"""
        with DAG("of_lines", schedule=None, params={{"day": ""}}) as dag:
            ParallelRunOperator(
                task_id="step", parallel_run_config=config(), output={str(output)!r},
                inputs=PipelineParameter("images", default_value={str(items / "0.txt")!r}),
            )
        """
    )
    run = dag_file.run({"images": f"{items / '1.txt'}\n{items / '2.txt'}\n", "day": "today", "dag_for_others": 1})
    assert (run.state, result_of(output)) == ("success", "item 1\nitem 2\n")
    run = dag_file.run({"imags": str(items)})
    assert (run.state, run.states["step.plan"]) == ("failed", "failed")
    assert run.states["step.merge"] == "upstream_failed"


def test_merge_sums_up_the_run_and_says_what_to_clear(dag_file, items, output):
    dag_file.script(
        """
        def run(mini_batch):
            if any(path.endswith("3.txt") for path in mini_batch):
                raise ValueError("three")
            return mini_batch
        """
    )
    config = "error_threshold=-1, node_count=2, mini_batch_size=1, run_max_try=1"
    outlets = "outlets=[__import__('airflow.sdk').sdk.Asset('counted://rows')]"
    dag_file.write(one_step("summary", items, output, config=config, step=outlets))
    run = dag_file.run()
    summary = run.xcom("step.merge", key="summary")
    assert (summary["status"], summary["items"]["failed"], summary["rows"]) == ("completed", 1, 9)
    assert summary["location"] == run.xcom("step.merge")
    assert summary["run_folder"] == run.xcom("step.plan", key="plan")["folder"]
    assert summary["advice"].startswith("1 mini-batch failed in shards that are done (map indexes of")
    assert summary["advice"] == run.xcom("step.gatekeeper")["advice"]
    assert summary["headline"] == "completed, 1 of 10 items failed"
    location = summary["location"]
    assert extras_of(run) == [{"location": location, "rows": 9, "items": 10, "failed_items": 1}]
