"""What a command line and a configuration's file describe together."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import pytest

from airflow_prs.cli.job import plan_job, read_job
from airflow_prs.config.datasets import FileDataset
from airflow_prs.errors import ConfigError, EmptyInputError
from tests.makers import make_config


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a script beside its configuration, from which the command is given."""
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    make_config(node_count=3, mini_batch_size=1).save_to_yaml(tmp_path / "job.yaml")
    (tmp_path / "data").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "data" / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*inputs, **values):
    defaults = {
        "config": "job.yaml",
        "side_input": [],
        "table": None,
        "table_option": [],
        "is_files": False,
        "arguments": [],
    }
    return read_job(Namespace(input=list(inputs), **(defaults | values)))


def test_an_input_begins_in_the_working_directory(here):
    assert read("data/*.png").inputs == (FileDataset(f"{here}/data/*.png").as_named_input("input_0"),)


def test_each_input_has_a_name_by_its_position(here):
    assert [dataset.name for dataset in read("data/a.png", "data/b.png").inputs] == ["input_0", "input_1"]


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("rows.csv", {}, "TabularDataset.from_delimited_files"),
        ("rows.CSV", {}, "TabularDataset.from_delimited_files"),
        ("rows/*.parquet", {}, "TabularDataset.from_parquet_files"),
        ("rows.csv", {"is_files": True}, "FileDataset"),
        ("rows/", {"table": "csv"}, "TabularDataset.from_delimited_files"),
        ("rows/", {"table": "parquet"}, "TabularDataset.from_parquet_files"),
        ("rows/", {}, "FileDataset"),
        ("rows.csv.gz", {}, "TabularDataset.from_delimited_files"),
        ("rows.jsonl.zst", {}, "TabularDataset.from_json_lines_files"),
        ("rows.NDJSON", {}, "TabularDataset.from_json_lines_files"),
        ("rows.feather", {}, "TabularDataset.from_arrow_files"),
        ("scans.tar.gz", {}, "FileDataset"),
        ("rows.csv.zip", {"is_files": True}, "FileDataset"),
    ],
)
def test_inputs_are_tables_by_suffix_or_by_option(here, path, values, expected):
    assert repr(read(path, **values).inputs[0]).startswith(f"{expected}('{here}/{path}'")


def test_the_separator_of_tsv_files_is_a_tab_unless_an_option_says_otherwise(here):
    assert read("rows.tsv").inputs[0].separator == "\t"
    assert read("rows.tsv.gz", table_option=["separator=|"]).inputs[0].separator == "|"


def test_a_table_has_the_options_of_its_dataset(here):
    options = ["separator=;", "header=each", "columns=[a, b]", "dtypes={a: float64}", "encoding=cp1252"]
    (table,) = read("rows.csv", table_option=options).inputs
    assert (table.separator, table.header, table.columns) == (";", "each", ("a", "b"))
    assert (table.dtypes, table.encoding) == ({"a": "float64"}, "cp1252")


@pytest.mark.parametrize(
    ("path", "options", "problem"),
    [
        ("rows.csv.zip", [], "rows.csv.zip is a table that cannot be read as it is; allowed: gzip, bzip2"),
        ("rows.parquet.gz", [], "allowed: a file that is not compressed as a whole, or --files"),
        ("rows.csv", ["separatr=;"], "did you mean 'separator'"),
        ("rows.csv", ["separator"], "--table-option separator: allowed: NAME=VALUE"),
        ("rows.csv", ["comment=#", "comment=%"], "--table-option comment is given twice"),
        ("rows.csv", ["path=else.csv"], "pass the path as --input"),
        ("rows.csv", ["columns=[a"], "not valid YAML"),
        ("rows.csv", ["columns=a"], "columns is 'a'; allowed"),
        ("rows.parquet", ["separator=;"], "separator is no "),
        ("data", ["separator=;"], "--table-option is given, but --input is files"),
    ],
)
def test_a_table_that_cannot_be_read_as_asked_is_refused(here, path, options, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        read(path, table_option=options)


def test_a_side_input_may_be_called_as_a_registered_model(here):
    (model,) = read("data", side_input=["iris-prs.v2=data/a.png"]).side_inputs
    assert model == FileDataset(f"{here}/data/a.png").as_named_input("iris-prs.v2")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"side_input": ["m=gs://b/m"]}, r"--side-input m=gs://b/m: path is 'gs://b/m'; gs:// is not supported yet"),
        ({"side_input": ["../m=data"]}, r"--side-input \.\./m=data: name is '\.\./m'"),
        ({"side_input": ["m=data", "m=data/a.png"]}, "--side-input m is given twice"),
    ],
)
def test_a_side_input_that_cannot_be_used_is_refused(here, values, problem):
    with pytest.raises(ConfigError, match=problem):
        read("data", **values)


def test_files_and_tables_do_not_mix(here):
    with pytest.raises(ConfigError, match="mixes files and tables"):
        read("data", "rows.csv")


def test_a_path_of_a_storage_that_is_not_supported_is_an_error_that_says_so(here):
    with pytest.raises(ConfigError, match="gs:// is not supported yet"):
        read("gs://bucket/data")


def test_an_address_stays_as_it_is_and_a_table_on_it_is_known_by_its_suffix(here):
    job = read("s3a://bucket/rows.csv", side_input=["model=abfs://models/a.bin"])
    assert repr(job.inputs[0]).startswith("TabularDataset.from_delimited_files('s3://bucket/rows.csv')")
    assert job.side_inputs == (FileDataset("abfs://models/a.bin").as_named_input("model"),)


def test_a_side_input_has_a_name_and_a_path(here):
    assert read("data", side_input=["model=data/a.png"]).side_inputs == (
        FileDataset(f"{here}/data/a.png").as_named_input("model"),
    )


def test_a_side_input_without_a_name_is_an_error_that_names_it(here):
    with pytest.raises(ConfigError, match=r"--side-input data/a\.png"):
        read("data", side_input=["data/a.png"])


def test_all_problems_are_told_at_once(here):
    (here / "score.py").unlink()
    with pytest.raises(ConfigError) as raised:
        read("data", "rows.csv", arguments=["--output", "elsewhere"])
    assert len(raised.value.problems) == 3


def test_relative_paths_of_the_configuration_begin_in_its_folder(here, monkeypatch):
    monkeypatch.chdir(here / "data")
    job = read("a.png", config="../job.yaml")
    assert plan_job(job, "out", nodes=1).manifest.items == 1


def test_a_run_has_one_shard_unless_told_otherwise(here):
    assert len(plan_job(read("data"), "out", nodes=1).manifest.shards) == 1


def test_nodes_are_shards(here):
    assert len(plan_job(read("data"), "out", nodes=2).manifest.shards) == 2


def test_a_check_plans_as_the_configuration_says(here):
    assert len(plan_job(read("data"), "out", nodes=None).manifest.shards) == 3


def test_each_plan_is_another_run_later_in_order(here):
    folders = [str(plan_job(read("data"), "out", nodes=1).folder.path) for _ in range(3)]
    assert len(set(folders)) == 3
    assert folders == sorted(folders)


def test_an_input_that_is_empty_is_an_error_without_advice_about_tasks(here):
    Path("empty").mkdir()
    with pytest.raises(EmptyInputError) as raised:
        plan_job(read("empty"), "out", nodes=1)
    assert "on_empty" not in str(raised.value)


def write_job(here, text):
    with (here / "job.yaml").open("a") as file:
        file.write(text)


def test_a_job_file_may_hold_all_that_the_command_line_says(here):
    (here / "rows").mkdir()
    write_job(
        here,
        "inputs:\n"
        "- {path: rows/*.txt, kind: csv, name: sales, separator: ';', columns: [a, b]}\n"
        "- rows.parquet\n"
        "side_inputs: {labels: data/a.png}\n"
        "output: out\n"
        "arguments: [--labels, {side_input: labels}, --depth, 3]\n",
    )
    job = read(config=str(here / "job.yaml"))
    sales, rows = job.inputs
    assert (sales.name, sales.separator, sales.columns) == ("sales", ";", ("a", "b"))
    assert (rows.name, repr(rows)[:34]) == ("input_1", "TabularDataset.from_parquet_files(")
    labels = FileDataset(f"{here}/data/a.png").as_named_input("labels")
    assert (job.side_inputs, job.output) == ((labels,), f"{here}/out")
    assert job.arguments == ("--labels", labels, "--depth", 3)


def test_the_scripts_argument_is_the_path_of_the_side_input(here):
    write_job(here, "inputs: [data]\nside_inputs: {labels: rows.json}\narguments: [-l, {side_input: labels}, -d, 3]\n")
    (here / "rows.json").write_text("{}")
    settings = plan_job(read(), "out", nodes=1).folder.read_settings()
    assert settings.arguments == ("-l", f"{here}/rows.json", "-d", "3")


def test_the_command_line_wins_over_the_job_file(here):
    write_job(here, "inputs: [rows.csv]\nside_inputs: {a: a.json, b: b.json}\noutput: out\narguments: [--depth, 3]\n")
    job = read("data", side_input=["b=data/b.png"], output="elsewhere", arguments=["--model", "mosaic"])
    assert job.inputs == (FileDataset(f"{here}/data").as_named_input("input_0"),)
    assert [each.path for each in job.side_inputs] == [f"{here}/a.json", f"{here}/data/b.png"]
    assert (job.output, job.arguments) == ("elsewhere", ("--model", "mosaic"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inputs: data", "inputs is 'data'; allowed: a list of paths"),
        ("inputs: [3]", "inputs has 3; allowed: a path"),
        ("inputs: [{kind: csv}]", "allowed: a mapping with path"),
        ("inputs: [{path: data, kind: excel}]", "inputs: data: kind is 'excel'; allowed: files, csv"),
        ("inputs: [{path: rows.csv, separatr: ;}]", "did you mean 'separator'"),
        ("inputs: [{path: data, separator: ;}]", "separator is no "),
        ("inputs: [data, rows.csv]", "inputs mixes files and tables"),
        ("inputs: [data]\nside_inputs: [labels.json]", "side_inputs is ['labels.json']; allowed: a mapping"),
        ("inputs: [data]\nside_inputs: {labels: 3}", "side_inputs.labels is 3; allowed: a path"),
        ("inputs: [data]\noutput: 3", "output is 3; allowed: the path of a folder"),
        ("inputs: [data]\narguments: --depth 3", "arguments is '--depth 3'; allowed: a list"),
        ("inputs: [data]\narguments: [-m, {side_input: m}]", "allowed: --side-input m=PATH"),
        ("inputs: [data]\narguments: [-m, {m: 3}]", "{'m': 3}"),
        ("input: [data]", "input is no key of the file; did you mean 'inputs'?"),
    ],
)
def test_a_job_file_with_something_wrong_is_refused(here, text, problem):
    write_job(here, text + "\n")
    with pytest.raises(ConfigError, match=re.escape(problem)):
        read()
