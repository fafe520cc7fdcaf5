"""How a function stands in its DAG as a step."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, TaskGroup, task

from airflow_prs import Environment, PipelineParameter, parallel_run
from airflow_prs.errors import ConfigError


@pytest.fixture
def dag():
    with DAG("steps", schedule=None) as dag:
        yield dag


@task
def give():
    return "/data/in"


def load(model):
    global loaded  # noqa: PLW0603
    loaded = model


@parallel_run(init=load, inputs="/data/*.txt", output="/data/out", mini_batch_size=10)
def score(mini_batch, size=1):
    """Score something."""
    return [loaded, size, *mini_batch]


@parallel_run
def bare(mini_batch):
    return mini_batch


def config_of(dag, step):
    return dag.task_dict[f"{step}.plan"].config


def test_the_call_makes_a_step_and_returns_its_result(dag):
    assert score(model="a").operator is dag.task_dict["score.merge"]
    assert dag.task_dict["score.plan"].inputs[0]["path"] == "/data/*.txt"
    assert dag.task_dict["score.plan"].doc_md.startswith("Score something.\n\n**plan** lists the input")


def test_what_is_left_out_has_the_defaults_of_a_simple_run(dag):
    score(model="a")
    config = config_of(dag, "score")
    assert config.environment == Environment.current()
    assert (config.error_threshold, config.output_action, config.compute_target) == (0, "append_row", "local")
    assert (config.node_count, config.mini_batch_size) == (1, 10)


def test_the_call_and_override_win_over_the_decorator(dag):
    other = score.override(task_id="other", mini_batch_size=3, retries=7)
    other(inputs=["/a", "/b"], output=give(), arguments=["--limit", 3], model="a")
    plan = dag.task_dict["other.plan"]
    assert (plan.inputs[0]["path"], plan.arguments) == (["/a", "/b"], ["--limit", 3])
    assert plan.upstream_task_ids == {"give"}
    assert plan.config.mini_batch_size == 3
    assert dag.task_dict["other.mini_batches"].retries == 7
    assert score.override(name="named")(model="a").operator.task_id == "named.merge"


def test_further_calls_get_a_number_as_with_any_task_of_airflow(dag):
    with TaskGroup("group"):
        ids = [score(model="a").operator.task_id for _ in range(3)]
    assert ids == ["group.score.merge", "group.score__1.merge", "group.score__2.merge"]


def test_values_are_known_to_plan_where_airflow_finds_tasks_and_templates_in_them(dag):
    score(model=[give(), "{{ ds }}"], size=PipelineParameter("size", 3))
    plan = dag.task_dict["score.plan"]
    assert plan.upstream_task_ids == {"give"}
    assert "parameters" in plan.template_fields
    assert dag.params["size"] == 3


def test_the_function_can_be_called_in_tests():
    assert bare.function([1]) == [1]
    assert bare.__name__ == "bare"


def test_airflows_own_decorators_know_it():
    assert task.parallel_run is parallel_run


WRONG = {
    "a misspelt parameter": ({"mini_batchsize": 3}, "score: mini_batchsize is no parameter of @parallel_run; did you"),
    "a script": ({"entry_script": "score.py"}, "score: entry_script is the function itself; use ParallelRunOperator"),
}


@pytest.mark.parametrize(("settings", "error"), WRONG.values(), ids=WRONG)
def test_an_unknown_parameter_is_an_error_that_names_it(settings, error):
    with pytest.raises(ConfigError, match=error):
        score.override(**settings)


@pytest.mark.parametrize(
    ("ids", "error"),
    [({"name": "a", "task_id": "b"}, "give either task_id or name"), ({"task_id": "a b"}, "task_id is 'a b'")],
)
def test_a_wrong_id_is_an_error_as_with_any_step(dag, ids, error):
    with pytest.raises(ConfigError, match=error):
        score.override(**ids)(model="a")


def test_an_output_that_is_missing_is_an_error_as_with_any_step(dag):
    with pytest.raises(ConfigError, match="output is missing"):
        bare(inputs="/data")


def test_a_dataset_that_is_no_side_input_is_no_value(dag):
    from airflow_prs import FileDataset

    with pytest.raises(ConfigError, match=r"the parameter model holds FileDataset.*allowed: a dataset that is in"):
        score(model=[FileDataset("/model")])


@pytest.mark.parametrize("name", ["expand", "expand_kwargs", "partial"])
def test_what_airflows_own_functions_have_for_mapping_is_an_error_that_says_what_to_do(name):
    with pytest.raises(AttributeError, match=rf"score.{name} is not there.*call score with all inputs, or several"):
        getattr(score, name)
    with pytest.raises(AttributeError, match="no attribute 'expnd'"):
        score.expnd(model=["a"])


def test_only_names_stand_for_inputs(dag):
    with pytest.raises(TypeError, match="positional argument"):
        score("/data")
