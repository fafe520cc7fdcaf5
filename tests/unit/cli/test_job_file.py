"""What a job file may hold beside the configuration, and a parallel job of Azure ML v2 in its place."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from airflow_prs.cli.job import plan_job, read_job
from airflow_prs.cli.job_file import read_variables
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError
from tests.makers import make_config

CONDA = {"name": "score", "dependencies": ["python=3.12", "pip", {"pip": ["scikit-learn==1.5.2"]}]}
OWN = f"{{userManagedDependencies: true, interpreterPath: {sys.executable}}}"

V2 = f"""
$schema: https://azuremlschemas.azureedge.net/latest/parallelComponent.schema.json
type: parallel
inputs:
  scans: {{type: uri_folder, path: ./data, mode: ro_mount}}
  model: {{type: uri_folder, path: model, mode: download}}
  level: 3
outputs:
  rows: {{type: uri_file, path: out/scores.csv}}
input_data: ${{{{inputs.scans}}}}
mini_batch_size: "2"
resources: {{instance_count: 3}}
max_concurrency_per_instance: 4
logging_level: DEBUG
mini_batch_error_threshold: 5
retry_settings: {{max_retries: 1, timeout: 90}}
environment_variables: {{LEVEL: 7}}
task:
  type: run_function
  code: ./src
  entry_script: score.py
  environment: {{python: {OWN}}}
  program_arguments: >-
    --model ${{{{inputs.model}}}} --level=${{{{ inputs.level }}}} --to '${{{{outputs.rows}}}}'
    --error_threshold 6 --allowed_failed_percent=30 --task_overhead_timeout 1200
  append_row_to: ${{{{outputs.rows}}}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a script, data and a model, which is not the working directory."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    for folder in ("data", "model", "else"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path / "else")
    return tmp_path


def read(file, *inputs, **values):
    defaults = {
        "config": str(file),
        "side_input": [],
        "table": None,
        "table_option": [],
        "is_files": False,
        "output": None,
        "arguments": [],
    }
    return read_job(Namespace(input=list(inputs), **(defaults | values)))


def write_own(here, **keys):
    make_config(source_directory="src", mini_batch_size=1).save_to_yaml(here / "job.yaml")
    layout = yaml.safe_load((here / "job.yaml").read_text())
    (here / "job.yaml").write_text(yaml.safe_dump(layout | keys))
    return here / "job.yaml"


def write_v2(here, text=V2, **keys):
    """Write the job with other values; a key with a dot is one of a mapping, and None is left out."""
    layout = yaml.safe_load(text)
    for key, value in keys.items():
        *above, last = key.split("__")
        place = layout
        for name in above:
            place = place.setdefault(name, {})
        place.pop(last, None)
        if value is not None:
            place[last] = value
    (here / "job.yaml").write_text(yaml.safe_dump(layout, sort_keys=False))
    return here / "job.yaml"


# a configuration, and what it is run with


def test_a_job_file_holds_all_of_a_job_with_paths_from_its_folder(here):
    job = read(
        write_own(
            here,
            inputs=["data", {"path": "more/", "partition_format": "/{day}.txt"}],
            side_inputs={"labels": "model"},
            output="out",
            arguments=["--labels", "${{side_inputs.labels}}", "--level", 3],
        )
    )
    assert job.inputs == (
        FileDataset(f"{here}/data").as_named_input("input_0"),
        FileDataset(f"{here}/more/", partition_format="/{day}.txt").as_named_input("input_1"),
    )
    assert job.side_inputs == (FileDataset(f"{here}/model").as_named_input("labels"),)
    assert job.output == f"{here}/out"
    assert job.arguments == ("--labels", f"{here}/model", "--level", "3")


def test_a_table_in_a_job_file_has_its_options(here):
    job = read(write_own(here, inputs={"path": "rows", "table": "csv", "separator": ";", "name": "rows"}))
    assert job.inputs == (TabularDataset.from_delimited_files(f"{here}/rows", separator=";").as_named_input("rows"),)


def test_the_command_line_overrides_the_job_file(here):
    file = write_own(here, inputs="data", side_inputs={"a": "model", "b": "model"}, output="out", arguments=["--x", 1])
    job = read(file, "a.txt", side_input=["b=a.txt"], output="other", arguments=["--y"])
    assert [dataset.path for dataset in job.inputs] == [f"{here}/else/a.txt"]
    assert {dataset.name: dataset.path for dataset in job.side_inputs} == {
        "a": f"{here}/model",
        "b": f"{here}/else/a.txt",
    }
    assert (job.output, job.arguments) == ("other", ("--y",))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"input": "data"}, "input is no key of the file; did you mean 'inputs'"),
        ({"inputs": [3]}, r"inputs\[0\] is 3; allowed: a path, or a mapping"),
        ({"inputs": [{"path": "rows", "table": "excel"}]}, r"inputs\[0\]: table is 'excel'; allowed: one of csv"),
        ({"inputs": [{"path": "data", "separatr": ";"}]}, r"inputs\[0\]: .*separatr"),
        ({"inputs": ["data", "rows.csv"]}, "inputs mixes files and tables"),
        ({"side_inputs": ["model"]}, "side_inputs is .*; allowed: a mapping of names to paths"),
        ({"output": ["out"]}, "output is .*; allowed: the path of a folder"),
        ({"output": "gs://b/out"}, r"output is 'gs://b/out': gs:// is not supported"),
        ({"arguments": "--x 1"}, "arguments is '--x 1'; allowed: a list"),
        ({"arguments": ["--m", "${{side_inputs.model}}"]}, r"arguments: \$\{\{side_inputs.model\}\} is no value of"),
        ({"arguments": ["--output", "x"]}, "arguments hold --output, which is reserved"),
    ],
)
def test_a_wrong_key_of_a_job_file_is_refused_with_its_name(here, keys, problem):
    with pytest.raises(ConfigError, match=problem):
        read(write_own(here, **keys))


def test_a_dag_reads_the_configuration_of_a_job_file(here):
    assert ParallelRunConfig.load_yaml(here, write_own(here, inputs="data", output="out")).mini_batch_size == 1


# a parallel job of Azure ML v2


def test_a_parallel_job_of_azure_is_read_with_the_meaning_of_its_keys(here):
    job = read(write_v2(here))
    config = job.config
    assert (config.node_count, config.process_count_per_node, config.mini_batch_size) == (3, 4, 2)
    assert (config.run_max_try, config.run_invocation_timeout, config.logging_level) == (2, 90, "DEBUG")
    assert (config.error_threshold, config.allowed_failed_count, config.allowed_failed_percent) == (6, 5, 30)
    assert (config.output_action, config.result_file_name) == ("append_row", "scores.csv")
    assert (config.source_directory, config.entry_script) == (f"{here}/src", "score.py")
    assert config.environment.python == sys.executable
    assert config.environment_variables == {"LEVEL": "7"}
    assert job.inputs == (FileDataset(f"{here}/data").as_named_input("scans"),)
    assert job.side_inputs == (FileDataset(f"{here}/model").as_named_input("model"),)
    assert job.output == f"{here}/out"


def test_references_in_program_arguments_become_paths_and_values(here):
    result = plan_job(read(write_v2(here)), str(here / "out"), nodes=1)
    assert result.folder.read_settings().arguments == (
        *("--model", f"{here}/model", "--level=3", "--to", f"{here}/out/scores.csv"),
        *("--task_overhead_timeout", "1200"),
    )


def test_another_output_of_the_command_line_is_that_of_references_too(here):
    job = read(write_v2(here), output="elsewhere")
    arguments = plan_job(job, str(job.output), nodes=1).folder.read_settings().arguments
    assert f"{here}/else/elsewhere/scores.csv" in arguments


def test_what_is_left_out_has_the_defaults_of_azure(here):
    task = {"entry_script": "score.py", "code": "src", "environment": {"python": yaml.safe_load(OWN)}}
    text = yaml.safe_dump(
        {"type": "parallel", "inputs": {"x": {"path": "data"}}, "input_data": "${{inputs.x}}", "task": task}
    )
    config = read(write_v2(here, text)).config
    assert (config.error_threshold, config.allowed_failed_count, config.run_max_try) == (-1, None, 3)
    assert (config.mini_batch_size, config.node_count, config.output_action) == (1, 1, "summary_only")


def test_an_mltable_is_a_table(here):
    (here / "data/MLTable").write_text("paths: [{file: ./rows.csv}]\ntransformations: [read_delimited: {}]\n")
    job = read(write_v2(here, inputs__scans__type="mltable", mini_batch_size="10kb"))
    assert job.inputs[0].path == (f"{here}/data/rows.csv",)
    assert job.config.mini_batch_size == "10kb"


def test_partition_keys_replace_the_size_of_mini_batches(here):
    config = read(write_v2(here, mini_batch_size=None, partition_keys=["day"])).config
    assert (config.partition_keys, config.mini_batch_size) == (("day",), None)


def test_data_may_come_from_the_command_line_where_azure_has_it_registered(here):
    file = write_v2(here, inputs__scans__path="azureml:scans:1", inputs__model__path="azureml:model@latest")
    job = read(file, "../data", side_input=["model=../model"])
    assert [dataset.path for dataset in (*job.inputs, *job.side_inputs)] == [
        f"{here}/else/../data",
        f"{here}/else/../model",
    ]
    assert job.arguments[1] == f"{here}/model"


@pytest.mark.parametrize("conda", [CONDA, "env.yml"])
def test_the_packages_of_an_environment_are_installed(here, conda):
    (here / "env.yml").write_text(yaml.safe_dump(CONDA))
    environment = read(write_v2(here, task__environment={"image": "ubuntu", "conda_file": conda})).config.environment
    assert (environment.requirements, environment.conda_file) in [
        (("scikit-learn==1.5.2",), None),
        (None, f"{here}/env.yml"),
    ]


def test_an_environment_may_be_a_file_of_its_own(here):
    (here / "envs").mkdir()
    (here / "envs/score.yml").write_text("conda_file: conda.yml\nimage: ubuntu\n")
    (here / "envs/conda.yml").write_text(yaml.safe_dump(CONDA))
    config = read(write_v2(here, task__environment="file:./envs/score.yml")).config
    assert config.environment.conda_file == f"{here}/envs/conda.yml"


def test_what_is_about_azure_is_ignored_with_one_line(here, caplog):
    file = write_v2(here, compute="azureml:cluster", identity={"type": "managed"}, resources__instance_type="gpu")
    with caplog.at_level(logging.WARNING):
        read(file)
    assert [line.partition(": ")[2] for line in caplog.messages] == ["compute, identity, resources.instance_type"]


def test_environment_variables_are_read_alone_to_continue_a_run(here):
    assert read_variables(write_v2(here)) == {"LEVEL": "7"}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"mini_batch_sizes": 5}, "mini_batch_sizes is no key of a parallel job; did you mean 'mini_batch_size'"),
        ({"task__script": "x"}, r"task\.script is no key of task"),
        ({"task__type": "model"}, r"task\.type is 'model'; allowed: run_function with an entry_script"),
        ({"task__code": "azureml:code:1"}, r"task\.code is 'azureml:code:1'; allowed: the path of a folder"),
        ({"task__entry_script": None}, r"task\.entry_script is missing"),
        ({"task__environment": "azureml:env:1"}, r"task\.environment is 'azureml:env:1', .*; write packages"),
        ({"task__environment": None}, r"task\.environment is missing; write packages"),
        ({"task__environment": {"image": "x"}}, "has no conda_file, and images are not used here; write packages"),
        ({"task__environment": {"conda": "x"}}, r"task\.environment\.conda is no key"),
        ({"task__environment": {"conda_file": {"dependencies": ["numpy"]}}}, "conda packages .numpy., which pip"),
        ({"task__program_arguments": "--x ${{inputs.modl}}"}, r"did you mean '\$\{\{inputs.model\}\}'"),
        ({"task__program_arguments": "--x 'a"}, "cannot be split: No closing quotation"),
        ({"task__program_arguments": "$[[--x 1]]"}, "the argument without these brackets"),
        ({"task__program_arguments": "--mini_batch_size 3"}, "arguments hold --mini_batch_size, which is reserved"),
        ({"error_threshold": 1}, "error_threshold is given twice"),
        ({"task__append_row_to": "rows.txt"}, r"task\.append_row_to is 'rows.txt'; allowed: \$\{\{outputs.NAME\}\}"),
        ({"task__append_row_to": "${{outputs.x}}"}, r"task\.append_row_to: x is no key of outputs"),
        ({"input_data": "${{inputs.other}}"}, r"input_data: other is no key of inputs"),
        ({"input_data": None}, r"input_data is missing; allowed: \$\{\{inputs.NAME\}\}"),
        ({"inputs__scans__path": "azureml:scans:1"}, r"inputs\.scans\.path is 'azureml:scans:1'; .* or as --input"),
        ({"inputs__model__path": None}, r"inputs\.model\.path is missing; .*--side-input model=PATH"),
        ({"inputs__scans__path": "gs://b/x"}, r"inputs\.scans: path is 'gs://b/x'; gs:// is not supported"),
        ({"inputs__scans__type": "uri"}, r"inputs\.scans\.type is 'uri'; allowed: one of uri_folder"),
        ({"inputs__scans__mode": "mount"}, r"inputs\.scans\.mode is 'mount'"),
        ({"inputs__level": "${{parent.inputs.level}}"}, r"inputs\.level is '.*'; allowed: the value itself"),
        ({"outputs__rows__path": "azureml://x"}, r"outputs\.rows\.path is 'azureml://x'; .*--output"),
        ({"mini_batch_size": "10kb"}, "mini_batch_size is '10kb'; allowed for the files of 'scans'"),
        ({"mini_batch_error_threshold": -2}, "mini_batch_error_threshold is -2; allowed"),
        ({"max_concurrency_per_instance": 0}, "max_concurrency_per_instance is 0; allowed"),
        ({"resources__instance_count": 0}, r"resources\.instance_count is 0; allowed"),
        ({"retry_settings__max_retries": -1}, r"retry_settings\.max_retries is -1; allowed: an int of at least 0"),
        ({"retry_settings__timeout": 0}, r"retry_settings\.timeout is 0; allowed"),
        ({"logging_level": "debug"}, "logging_level is 'debug'; allowed"),
        ({"environment_variables": ["A"]}, "environment_variables"),
        ({"inputs": ["data"]}, "inputs is .*; allowed: a mapping"),
        ({"outputs": "out"}, "outputs is 'out'; allowed: a mapping"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_that_names_the_key(here, keys, problem):
    with pytest.raises(ConfigError, match=problem):
        read(write_v2(here, **keys))


def test_a_pipeline_is_refused_with_what_is_read(here):
    with pytest.raises(ConfigError, match="one of its parallel jobs, in a file of its own"):
        read(write_v2(here, "type: pipeline\njobs: {score: {type: parallel}}\n"))


def test_a_dag_does_not_read_a_parallel_job_and_says_who_does(here):
    with pytest.raises(ConfigError, match=r"which airflow-prs run and airflow-prs check read; .*The newer names"):
        ParallelRunConfig.load_yaml(here, Path(write_v2(here)))
