"""Misspelled parameters in the conf of a run."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_prs.errors import ConfigError
from airflow_prs.operators.promotion import check_conf

OWN = ["node_count", "limit"]


@pytest.fixture
def dag():
    with DAG("steps", schedule=None, params={"node_count": 2, "limit": 3, "other_step_nodes": 2}) as dag:
        BaseOperator(task_id="other", params={"limit_s": 4})
    return dag


@pytest.mark.parametrize("key", ["node_cont", "nodes_count", "Node-Count", "limits"])
def test_a_near_miss_names_the_parameter_that_was_meant(dag, key):
    problem = rf"{key} is 7 in the conf of the run, .* did you mean '(node_count|limit)'\?"
    with pytest.raises(ConfigError, match=problem):
        check_conf({key: 7}, dag, OWN)


@pytest.mark.parametrize("key", ["node_count", "limit", "other_step_nodes", "other_step_node", "limit_s", "day"])
def test_names_and_what_belongs_to_other_tasks_pass(dag, key):
    check_conf({key: 7}, dag, OWN)


def test_a_run_without_conf_passes(dag):
    check_conf(None, dag, OWN)


def test_all_near_misses_are_told_together(dag):
    with pytest.raises(ConfigError) as caught:
        check_conf({"node_cont": 1, "limitt": 2, "day": 3}, dag, OWN)
    assert [problem.split()[0] for problem in caught.value.problems] == ["node_cont", "limitt"]
