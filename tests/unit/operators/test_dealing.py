"""Who gets which argument of Airflow's operators."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG, Asset, TaskGroup

from airflow_prs import ComputeTarget, PipelineParameter
from airflow_prs.errors import ConfigError

TASKS = ("plan", "mini_batches", "gatekeeper", "merge")


def of_each(step, name):
    return {task: getattr(getattr(step, task), name) for task in TASKS}


def in_dag(make_step, default_args=None, **arguments):
    with DAG("dealt", schedule=None, default_args=default_args or {}):
        return make_step(**arguments)


RULES = {
    "plan": "all_success",
    "mini_batches": "all_success",
    "gatekeeper": "one_success",
    "merge": "none_failed_min_one_success",
}


def test_trigger_rules_are_fixed_whatever_default_args_say(make_step):
    step = in_dag(make_step, {"trigger_rule": "all_done"})
    assert of_each(step, "trigger_rule") == RULES


def test_a_trigger_rule_of_the_group_around_reaches_nobody(make_step):
    with DAG("dealt", schedule=None), TaskGroup("outer", default_args={"trigger_rule": "all_done"}):
        assert of_each(make_step(), "trigger_rule") == RULES


def test_a_trigger_rule_given_to_the_step_is_plans(make_step):
    assert of_each(in_dag(make_step, trigger_rule="all_done"), "trigger_rule") == {**RULES, "plan": "all_done"}


@pytest.mark.parametrize("given", ["depends_on_past", "wait_for_downstream"])
@pytest.mark.parametrize("as_default", [True, False])
def test_either_flag_lets_plan_alone_wait_for_the_entire_step_of_the_run_before(make_step, given, as_default):
    step = in_dag(make_step, {given: True}) if as_default else in_dag(make_step, **{given: True})
    for name in ("depends_on_past", "wait_for_downstream"):
        assert of_each(step, name) == dict.fromkeys(TASKS, False) | {"plan": True}
    assert step.plan.downstream_task_ids == {f"step.{task}" for task in TASKS[1:]}


def test_a_flag_given_to_the_step_wins_over_default_args(make_step):
    step = in_dag(make_step, {"depends_on_past": True}, depends_on_past=False)
    assert not step.plan.depends_on_past
    assert not step.plan.wait_for_downstream


@pytest.mark.parametrize(("default_args", "expected"), [({}, True), ({"deferrable": False}, False)])
def test_the_gatekeeper_defers_unless_default_args_say_otherwise(make_step, default_args, expected):
    assert in_dag(make_step, default_args).gatekeeper.deferrable is expected


def test_shards_retry_once_more_than_a_mini_batch_and_soon(make_step):
    step = in_dag(make_step, config={"run_max_try": 4})
    assert of_each(step, "retries") == {"plan": 0, "mini_batches": 6, "gatekeeper": 2, "merge": 2}
    assert step.mini_batches.retry_delay == step.merge.retry_delay == timedelta(seconds=5)


def test_a_promoted_number_of_tries_counts_with_its_default(make_step):
    step = in_dag(make_step, config={"run_max_try": PipelineParameter("tries", default_value=2)})
    assert step.mini_batches.retries == 4


def test_retries_of_default_args_win_over_ours(make_step):
    assert set(of_each(in_dag(make_step, {"retries": 7}), "retries").values()) == {7}


def test_retries_given_to_the_step_win_over_default_args_for_the_shards(make_step):
    step = in_dag(make_step, {"retries": 7}, retries=1, retry_delay=timedelta(minutes=1))
    assert of_each(step, "retries") == {"plan": 7, "mini_batches": 1, "gatekeeper": 7, "merge": 7}
    assert step.mini_batches.retry_delay == timedelta(minutes=1)


def test_a_time_limit_given_to_the_step_is_that_of_the_shards(make_step):
    limit = timedelta(hours=1)
    limits = of_each(in_dag(make_step, execution_timeout=limit), "execution_timeout")
    assert limits == {"plan": None, "mini_batches": limit, "gatekeeper": None, "merge": None}


def test_a_time_limit_of_default_args_never_ends_the_gatekeeper(make_step):
    step = in_dag(make_step, {"execution_timeout": timedelta(hours=1)})
    assert step.gatekeeper.execution_timeout is None
    assert step.merge.execution_timeout == timedelta(hours=1)


def test_outlets_and_success_belong_to_merge(make_step):
    asset, tell = Asset("scores"), print
    step = in_dag(make_step, {"on_success_callback": tell}, outlets=[asset])
    assert of_each(step, "outlets") == {"plan": [], "mini_batches": [], "gatekeeper": [], "merge": [asset]}
    assert of_each(step, "on_success_callback") == {"plan": [], "mini_batches": [], "gatekeeper": [], "merge": [tell]}


def test_no_two_tasks_share_a_list_of_outlets(make_step):
    step = in_dag(make_step)
    step.plan.add_outlets([Asset("plan alone")])
    assert step.gatekeeper.outlets == []


def test_the_others_go_to_all(make_step):
    step = in_dag(make_step, pool="slots", queue="fast", priority_weight=5)
    assert set(of_each(step, "pool").values()) == {"slots"}
    assert set(of_each(step, "queue").values()) == {"fast"}
    assert of_each(step, "priority_weight") == {"plan": 5, "mini_batches": 5, "gatekeeper": 4, "merge": 5}


@pytest.mark.parametrize("dag_arguments", [{}, {"priority_weight": 7}])
def test_shards_take_free_slots_before_a_gatekeeper_that_looks_again(make_step, dag_arguments):
    weights = of_each(in_dag(make_step, dag_arguments), "priority_weight")
    assert weights["gatekeeper"] == weights["mini_batches"] - 1


def test_the_compute_target_has_the_last_word_on_the_shards(make_step):
    step = in_dag(make_step, config={"compute_target": ComputeTarget(queue="gpu", pool_slots=2)}, queue="fast")
    assert of_each(step, "queue") == {**dict.fromkeys(TASKS, "fast"), "mini_batches": "gpu"}
    assert step.mini_batches.pool_slots == 2


def test_node_count_limits_the_shards_that_run_at_a_time(make_step):
    step = in_dag(make_step, config={"node_count": 3})
    assert step.mini_batches.max_active_tis_per_dagrun == 3
    assert step.merge.max_active_tis_per_dagrun is None


def test_the_maximum_of_a_promoted_node_count_limits_the_shards(make_step):
    nodes = PipelineParameter("nodes", default_value=2, maximum=6)
    step = in_dag(make_step, config={"node_count": nodes, "mini_batches_per_task": 1})
    assert step.mini_batches.max_active_tis_per_dagrun == 6


@pytest.mark.parametrize(
    "name", ["map_index_template", "max_active_tis_per_dagrun", "do_xcom_push", "multiple_outputs"]
)
def test_what_is_ours_is_refused_with_the_reason(make_step, name):
    with pytest.raises(ConfigError, match=rf"{name} is no parameter of ParallelRunOperator: "):
        in_dag(make_step, **{name: 1})


def test_default_args_cannot_change_what_is_ours(make_step):
    step = in_dag(make_step, {"do_xcom_push": False, "map_index_template": "x", "mode": "poke", "soft_fail": True})
    assert step.plan.do_xcom_push
    assert step.mini_batches.map_index_template == "{{ task.shard['label'] }}"
    assert step.gatekeeper.reschedule
    assert not step.gatekeeper.soft_fail


def test_all_tasks_tell_of_a_failure(make_step):
    step = in_dag(make_step, on_failure_callback=print)
    assert of_each(step, "on_failure_callback") == {task: [print] for task in TASKS}
