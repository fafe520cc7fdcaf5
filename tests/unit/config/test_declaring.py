"""Wrong parts of a step: reported together with the step while a DAG file is parsed, immediately anywhere else."""

import copy
import pickle

import pytest

from airflow_prs import ComputeTarget, Environment, FileDataset, ParallelRunConfig, PipelineParameter, TabularDataset
from airflow_prs.config import declaring
from airflow_prs.config.declaring import Refused, collected
from airflow_prs.errors import ConfigError
from tests.makers import make_config


@pytest.fixture
def parsing(monkeypatch):
    monkeypatch.setattr(declaring, "_parsing", [lambda: True])


MISSPELLED = {
    "FileDataset": (lambda: FileDataset("/in", partition_fromat="/{day}"), "'partition_format'"),
    "FileDataset without a path": (lambda: FileDataset(pth="/in"), "'path'"),
    "TabularDataset.from_delimited_files": (
        lambda: TabularDataset.from_delimited_files("/in", separatr=";"),
        "'separator'",
    ),
    "TabularDataset.from_parquet_files": (lambda: TabularDataset.from_parquet_files("/in", columnz=["a"]), "'columns'"),
    "TabularDataset.partition_by": (
        lambda: TabularDataset.from_parquet_files("/in").partition_by(["a"], tarket="/out"),
        "'target'",
    ),
    "PipelineParameter": (lambda: PipelineParameter("n", 2, maximumm=3), "'maximum'"),
    "ComputeTarget": (lambda: ComputeTarget(quue="gpu"), "'queue'"),
    "Environment.from_pip": (lambda: Environment.from_pip(["x"], pyton="3.12"), "'python'"),
    "ParallelRunConfig": (lambda: make_config(node_cont=2), "'node_count'"),
}


@pytest.mark.parametrize(("make", "meant"), MISSPELLED.values(), ids=MISSPELLED)
def test_a_misspelled_keyword_names_the_parameter_that_was_meant(make, meant):
    with pytest.raises(ConfigError, match=rf"is no parameter of .*; did you mean {meant}\?"):
        make()


WRONG = {
    **{name: make for name, (make, _) in MISSPELLED.items()},
    "a path": lambda: FileDataset(3),
    "a separator": lambda: TabularDataset.from_delimited_files("/in", separator=";;"),
    "a name": lambda: FileDataset("/in").as_named_input("a b"),
    "a default": lambda: PipelineParameter("n", 2, maximum=1),
    "a configuration": lambda: make_config(node_count=0),
    "the dataset of a name": lambda: FileDataset(3).as_named_input("a"),
    "the table of a copy": lambda: TabularDataset.from_parquet_files(3).partition_by(["a"], target="/out"),
    "an MLTable": lambda: TabularDataset.from_mltable("/nowhere"),
    "a YAML file": lambda: ParallelRunConfig.load_yaml(None, "/nowhere/config.yml"),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_wrong_part_waits_for_its_step_with_the_problems_that_it_has_anywhere_else(make, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        make()
    monkeypatch.setattr(declaring, "_parsing", [lambda: True])
    assert make().problems == caught.value.problems


@pytest.mark.usefixtures("parsing")
def test_any_other_use_of_a_wrong_part_raises_its_error():
    refused = make_config(node_count=0)
    with pytest.raises(ConfigError, match="node_count is 0"):
        refused.save_to_yaml("config.yml")
    assert not hasattr(refused, "iter_references")


@pytest.mark.usefixtures("parsing")
def test_a_configuration_reports_the_problems_of_the_parts_it_is_made_of():
    refused = make_config(
        node_count=PipelineParameter("n", 2, maximum=1), environment=Environment.from_python(3), run_max_try=0
    )
    assert isinstance(refused, Refused)
    problems = sorted(refused.problems)
    assert len(problems) == 3
    assert problems[0].startswith("PipelineParameter 'n': the default 2 is more than")
    assert problems[1].startswith("environment is 3")
    assert problems[2].startswith("run_max_try is 0")


@pytest.mark.usefixtures("parsing")
def test_a_dataset_reports_the_problems_of_the_parameter_of_its_path():
    assert FileDataset([PipelineParameter("p", {1}), "/in"]).problems == (
        "PipelineParameter 'p': the default is {1}; allowed: plain JSON values",
    )


@pytest.mark.usefixtures("parsing")
@pytest.mark.parametrize(
    "part",
    [FileDataset("/in"), TabularDataset.from_parquet_files("/in"), make_config(), PipelineParameter("n", 2)],
    ids=lambda part: type(part).__name__,
)
def test_a_right_part_is_the_same_while_a_file_is_parsed(part):
    assert copy.deepcopy(part) == part
    assert pickle.loads(pickle.dumps(part)) == part
    assert FileDataset("/in") == FileDataset("/in")


@pytest.mark.usefixtures("parsing")
def test_while_problems_are_collected_parts_raise_their_errors():
    problems = []
    with collected(problems):
        FileDataset(3)
    assert len(problems) == 1
