"""Parallel jobs of Azure ML v2 mean the same here, or are refused with the name of the key."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import yaml

from airflow_prs import ParallelRunConfig
from airflow_prs.config.job_file import read_job_file
from airflow_prs.errors import ConfigError

JOB = """
$schema: https://azuremlschemas.azureedge.net/latest/parallelJob.schema.json
type: parallel
compute: azureml:cpu-cluster
inputs:
  rows: {type: mltable, path: ./neural-iris-mltable, mode: direct}
  score_model: {type: uri_folder, path: ./iris-model, mode: download}
  threshold: 0.5
outputs:
  scores: {type: uri_file, mode: rw_mount, path: out/scores.csv}
input_data: ${{inputs.rows}}
mini_batch_size: "10kb"
resources: {instance_count: 2, instance_type: Standard_DS3}
max_concurrency_per_instance: 3
logging_level: "DEBUG"
mini_batch_error_threshold: 5
retry_settings: {max_retries: 4, timeout: 90}
environment_variables: {LEVEL: high}
task:
  type: run_function
  code: script
  entry_script: iris_prediction.py
  environment: {python: {userManagedDependencies: true, interpreterPath: python}}
  program_arguments: >-
    --model ${{ inputs.score_model }} --threshold=${{inputs.threshold}}
    --error_threshold 7 --allowed_failed_percent=30 --task_overhead_timeout 1200 --title 'two words'
  append_row_to: ${{outputs.scores}}
"""


@pytest.fixture
def job(tmp_path):
    """Return what writes a job of v2, with keys changed or (None) removed, and reads it."""

    def write(changes=(), *, text=JOB):
        layout = yaml.safe_load(text)
        for place, value in dict(changes).items():
            *parents, key = place.split(".")
            part = layout
            for parent in parents:
                part = part[parent]
            part[key] = value
            if value is None:
                del part[key]
        path = tmp_path / "job.yml"
        path.write_text(yaml.safe_dump(layout))
        return path

    return write


def read(path: Path):
    problems: list[str] = []
    found = read_job_file(path, problems)
    assert not problems
    return found


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        read_job_file(path, [])
    return str(raised.value)


def test_each_setting_is_the_parameter_that_means_the_same(job, caplog):
    path = job()
    with caplog.at_level(logging.WARNING):
        config = ParallelRunConfig.load_yaml(path.parent, path)
    assert (config.error_threshold, config.allowed_failed_count, config.allowed_failed_percent) == (7, 5, 30.0)
    assert (config.run_max_try, config.run_invocation_timeout) == (5, 90)
    assert (config.node_count, config.process_count_per_node, config.compute_target) == (2, 3, "cpu-cluster")
    assert (config.logging_level, config.mini_batch_size) == ("DEBUG", "10kb")
    assert (config.output_action, config.append_row_file_name) == ("append_row", "scores.csv")
    assert config.entry_script == "iris_prediction.py"
    assert config.source_directory == str(path.parent / "script")
    assert config.environment_variables == {"LEVEL": "high"}
    assert caplog.messages == [f"Ignored in {path}: resources.instance_type"]


def test_inputs_output_and_arguments_are_those_of_the_job(job):
    found = read(job())
    assert found.inputs == ({"name": "rows", "path": "./neural-iris-mltable", "kind": "mltable"},)
    assert found.side_inputs == {"score_model": "./iris-model"}
    assert found.output == "out"
    model = {"side_input": "score_model"}
    driver = ("--task_overhead_timeout", "1200")
    assert found.arguments == ("--model", model, "--threshold=0.5", *driver, "--title", "two words")


def test_what_is_left_out_has_the_default_of_v2(job):
    left_out = ("mini_batch_error_threshold", "retry_settings", "resources", "compute", "max_concurrency_per_instance")
    path = job({**dict.fromkeys(left_out), "task.program_arguments": None, "logging_level": None})
    config = ParallelRunConfig.load_yaml(path.parent, path)
    assert (config.error_threshold, config.allowed_failed_count, config.allowed_failed_percent) == (-1, None, None)
    assert (config.run_max_try, config.run_invocation_timeout, config.logging_level) == (3, 60, "INFO")
    assert (config.node_count, config.process_count_per_node, config.compute_target) == (1, None, "local")


@pytest.mark.parametrize(("kind", "expected"), [("uri_folder", "1"), ("mltable", None)])
def test_a_mini_batch_is_one_file_unless_the_job_says_otherwise(job, kind, expected):
    found = read(job({"mini_batch_size": None, "inputs.rows.type": kind}))
    assert found.config.get("mini_batch_size") == expected


def test_without_append_row_to_the_script_writes_into_the_output(job):
    path = job({"task.append_row_to": None, "outputs": {"images": {"type": "uri_folder", "path": "out/images"}}})
    assert (read(path).output, read(path).config["output_action"]) == ("out/images", "summary_only")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"path": "s3://bucket/a/scores.csv"}, ("s3://bucket/a", "scores.csv")),
        ({"path": "scores.csv"}, (".", "scores.csv")),
        ({"path": "out/", "type": "uri_folder"}, ("out/", None)),
        ({"type": "uri_file"}, (None, None)),
        (None, (None, None)),
    ],
)
def test_the_output_is_the_folder_and_the_name_of_the_file(job, output, expected):
    path = job()
    layout = yaml.safe_load(path.read_text())
    layout["outputs"]["scores"] = output
    path.write_text(yaml.safe_dump(layout))
    found = read(path)
    assert (found.output, found.config.get("append_row_file_name")) == expected


def test_a_pipeline_is_read_for_its_only_parallel_job(job, tmp_path):
    inner = yaml.safe_load(JOB)
    inner["inputs"]["rows"] = "${{parent.inputs.data}}"
    inner["inputs"]["score_model"] = "${{parent.jobs.train.outputs.model}}"
    pipeline = {
        "type": "pipeline",
        "inputs": {"data": {"type": "uri_folder", "path": "images"}},
        "jobs": {"train": {"type": "command"}, "score": inner},
    }
    path = tmp_path / "pipeline.yml"
    path.write_text(yaml.safe_dump(pipeline))
    found = read(path)
    assert found.inputs == ({"name": "rows", "path": "images", "kind": "files"},)
    assert found.side_inputs == {}
    assert "all of the pipeline but its inputs and the job score" in found.ignored
    assert "inputs.score_model, as ${{parent.jobs.train.outputs.model}} is not in this file" in found.ignored
    pipeline["jobs"]["again"] = inner
    path.write_text(yaml.safe_dump(pipeline))
    assert "the pipeline has 2 jobs of type parallel (again, score); allowed: one" in refusal(path)


def test_data_that_only_azure_ml_knows_is_left_for_the_command_line(job):
    asset, store = "azureml:rows:1", "azureml://datastores/blob/paths/scores.csv"
    changes = {"inputs.rows.path": asset, "inputs.score_model.path": "azureml:m@latest", "outputs.scores.path": store}
    found = read(job(changes))
    assert (found.inputs, found.side_inputs, found.output) == ((), {}, None)
    assert f"inputs.rows, as {asset} is known to Azure ML only" in found.ignored
    assert f"outputs.scores, as {store} is known to Azure ML only" in found.ignored


@pytest.mark.parametrize(
    ("environment", "python"),
    [
        ({"image": "ubuntu", "conda_file": "env.yml"}, {"condaDependenciesFile": "env.yml"}),
        (
            {"image": "ubuntu", "conda_file": {"dependencies": [{"pip": ["scikit-learn"]}]}},
            {"condaDependencies": {"dependencies": [{"pip": ["scikit-learn"]}]}},
        ),
    ],
)
def test_packages_are_those_of_the_conda_file(job, environment, python):
    found = read(job({"task.environment": environment}))
    assert (found.config["environment"], found.ignored[-1]) == ({"python": python}, "task.environment.image")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mini_batch_eror_threshold": 3}, "did you mean 'mini_batch_error_threshold'?"),
        ({"component": "azureml:x:1"}, "component is no key of a parallel job"),
        ({"task.environmnt": "x"}, "environmnt is no key of task; did you mean 'environment'?"),
        ({"task": None}, "task is missing; allowed: a mapping with code"),
        ({"task.type": "model"}, "task.type is 'model'; allowed: run_function"),
        ({"resources": 3}, "resources is 3; allowed: a mapping"),
        ({"retry_settings.max_retries": -1}, "retry_settings.max_retries is -1; allowed: a whole number from 0 on"),
        ({"retry_settings.retries": 1}, "retries is no key of retry_settings"),
        ({"input_data": "${{inputs.row}}"}, "input_data is '${{inputs.row}}'; allowed: ${{inputs.NAME}}"),
        ({"input_data": "data/*.csv"}, "input_data is 'data/*.csv'; allowed: ${{inputs.NAME}}"),
        ({"task.append_row_to": "out.csv"}, "append_row_to is 'out.csv'; allowed: ${{outputs.NAME}}"),
        ({"task.program_arguments": "--a ${{outputs.scores}}"}, "finds its output folder as EntryScript().output_dir"),
        ({"task.program_arguments": "--a=${{inputs.score_model}}"}, "allowed: an argument of its own"),
        ({"task.program_arguments": "--a ${{inputs.rows}}"}, "run() gets the mini-batches of input_data"),
        ({"task.program_arguments": "--a ${{inputs.other}}"}, "has ${{inputs.other}}; allowed: ${{inputs.NAME}}"),
        ({"task.program_arguments": "--a $[[--b ${{inputs.threshold}}]]"}, "without optional parts in $[[ ]]"),
        ({"task.program_arguments": "--a 'b"}, "No closing quotation; allowed: the words of a command line"),
        ({"task.program_arguments": "--error_threshold few"}, "--error_threshold is 'few'; allowed: a number"),
        ({"error_threshold": 3}, "error_threshold is 3, but 7 in task.program_arguments; allowed: one of them"),
        ({"outputs.other": {"path": "x"}, "task.append_row_to": None}, "outputs has 2 paths; allowed: one"),
    ],
)
def test_what_has_no_meaning_here_is_refused_by_name(job, changes, problem):
    assert problem in refusal(job(changes))


@pytest.mark.parametrize("environment", ["azureml:prs-env:1", {"name": "prs-env", "image": "ubuntu"}])
def test_an_environment_of_azure_ml_is_refused_with_what_to_write(job, environment):
    path = job({"task.environment": environment})
    with pytest.raises(ConfigError, match=re.escape("interpreterPath: /path/to/bin/python")):
        ParallelRunConfig.load_yaml(path.parent, path)
