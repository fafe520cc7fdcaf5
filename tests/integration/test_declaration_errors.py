"""The errors of a DAG file as Airflow shows them."""

from __future__ import annotations

import pytest

DAG_FILE = """
from airflow.sdk import DAG
from airflow_prs import {names}

{body}
"""

PARTS = """
config = ParallelRunConfig(
    environment="current",
    entry_script="none.py",
    error_threshold=PipelineParameter("threshold", 2, maximum=1),
    output_action="append",
    compute_target="local",
    node_cont=2,
)
digits = FileDataset(3).as_named_input("digits")
with DAG("wrong", schedule=None):
    ParallelRunOperator(task_id="step", parallel_run_config=config, inputs=[digits], on_emty="skip", output="out")
"""

FUNCTION = """
@parallel_run(inputs=FileDataset(""), output="out", node_count=0)
def score(mini_batch, size):
    return mini_batch

with DAG("wrong", schedule=None):
    score(sizee=3)
"""


@pytest.fixture
def parse(airflow_home, tmp_path):
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag

    def parse(body, names):
        file = tmp_path / "dag.py"
        file.write_text(DAG_FILE.format(names=", ".join(names), body=body))
        return "".join(DagBag(file).import_errors.values())

    return parse


def test_configuration_datasets_and_operator_are_refused_in_one_round(parse):
    shown = parse(PARTS, ["FileDataset", "ParallelRunConfig", "ParallelRunOperator", "PipelineParameter"])
    for problem in (
        "node_cont is no parameter of ParallelRunConfig; did you mean 'node_count'?",
        "node_count is missing",
        "output_action is 'append'",
        "PipelineParameter 'threshold': the default 2 is more than the maximum 1",
        "path is 3",
        "on_emty is no parameter of ParallelRunOperator; did you mean 'on_empty'?",
        "output is 'out'; allowed: an absolute path",
    ):
        assert f"\n- {problem}" in shown


def test_a_wrong_parameter_of_an_output_or_an_argument_is_shown(parse):
    body = """
@parallel_run(inputs="/in", output=PipelineParameter("out", "/out", maximun_=3))
def score(mini_batch, size):
    return mini_batch

with DAG("wrong", schedule=None):
    score(size=PipelineParameter("a size", 3), arguments=["--n", PipelineParameter("a b", 3)])
"""
    shown = parse(body, ["PipelineParameter", "parallel_run"])
    assert "\n- maximun_ is no parameter of PipelineParameter; did you mean 'maximum'?" in shown
    assert "\n- name of a PipelineParameter is 'a b'" in shown
    assert "\n- name of a PipelineParameter is 'a size'" in shown
    assert "Refused" not in shown.rpartition("ConfigError: ")[2]


def test_a_function_and_its_step_are_refused_in_one_round(parse):
    shown = parse(FUNCTION, ["FileDataset", "parallel_run"])
    for problem in (
        "sizee is no parameter of score; did you mean 'size'?",
        "score() lacks the parameter size",
        "node_count is 0",
        "path is ''",
        "output is 'out'",
    ):
        assert f"\n- {problem}" in shown


def test_a_wrong_dataset_alone_is_shown_as_the_only_problem(parse):
    body = FUNCTION.replace("sizee=", "size=").replace('"out"', '"/out"')
    shown = parse(body.replace("node_count=0", "node_count=1"), ["FileDataset", "parallel_run"])
    assert "ConfigError: step 'score': path is ''; allowed:" in shown
