"""The arguments of Airflow's operators, divided among the four tasks."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import BaseOperator, TriggerRule

from airflow_prs.config.config import RULES, ParallelRunConfig
from airflow_prs.errors import ConfigError
from airflow_prs.operators.task_docs import documented
from airflow_prs.wording import nearest

DEFAULT_PRIORITY_WEIGHT = 1
"""Airflow's own."""

RETRIES = 2
RETRY_DELAY_S = 5

_PLAN = {
    "trigger_rule": TriggerRule.ALL_SUCCESS,
    "inlets": [],
    "depends_on_past": False,
    "wait_for_downstream": False,
    "ignore_first_depends_on_past": False,
    "wait_for_past_depends_before_skipping": False,
}
"""Arguments of plan alone, with the values for the others: a shard that waits for the previous run may never start."""

_WAITING = ("depends_on_past", "wait_for_downstream")
"""Arguments that let a task wait for the run before."""

_MERGE: dict[str, Any] = {"outlets": [], "on_success_callback": None}
"""Arguments of merge alone, with the values for the others."""

_MINI_BATCHES = ("retries", "retry_delay", "execution_timeout")
"""Arguments of the step that go to mini_batches alone; default_args apply to the other tasks, too."""

_FIXED = {
    "do_xcom_push": True,
    "multiple_outputs": False,
    "map_index_template": None,
    "max_active_tis_per_dagrun": None,
}
"""Arguments that default_args must not change."""

OWN_ARGUMENTS = {
    "map_index_template": "shards have labels of their own",
    "max_active_tis_per_dagrun": "node_count is that limit",
    "do_xcom_push": "the tasks of the step pass their results to each other as XComs",
    "multiple_outputs": "the result is one location",
}
"""Arguments that nobody may set, with the reason."""


TASK_ARGUMENTS = frozenset(inspect.signature(BaseOperator.__init__).parameters) - {"self", "kwargs"}
"""The arguments of Airflow's operators, in the installed version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """The arguments of each task."""

    plan: dict[str, Any]
    mini_batches: dict[str, Any]
    gatekeeper: dict[str, Any]
    merge: dict[str, Any]


def check_task_arguments(given: Mapping[str, Any], own: Iterable[str], operator_name: str) -> None:
    """
    Check that Airflow's operators have these arguments, and that the step leaves them to the author.

    :param given: the arguments that are not the operator's own.
    :param own: the names of its own.
    :raises ConfigError: with a problem for each that is not allowed, and the parameter that was probably meant.
    """
    known = {*own, *TASK_ARGUMENTS} - set(OWN_ARGUMENTS)
    if problems := [_find_problem(name, known, operator_name) for name in given if name not in known]:
        raise ConfigError(problems)


def _find_problem(name: str, known: Iterable[str], operator_name: str) -> str:
    if name in OWN_ARGUMENTS:
        return f"{name} is no parameter of {operator_name}: {OWN_ARGUMENTS[name]}"
    if name in RULES:
        return f"{name} is no parameter of {operator_name}, but of ParallelRunConfig"
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else "nor of Airflow's BaseOperator"
    return f"{name} is no parameter of {operator_name}{';' if near else ','} {hint}"


def deal(
    config: ParallelRunConfig, given: Mapping[str, Any], default_args: Mapping[str, Any], target: Mapping[str, Any]
) -> Dealt:
    """
    Return the arguments of each task: those of the step have priority, then default_args, then our own defaults.

    Airflow applies default_args to the tasks. Arguments to which it must not apply them are set here for each task.

    :param given: the arguments of the step itself.
    :param default_args: those of the DAG and of the groups around.
    :param target: the arguments of the compute target, which override all others for mini_batches.
    """
    alone = {*_PLAN, *_MERGE, *_MINI_BATCHES}
    everybody = {name: value for name, value in given.items() if name not in alone}
    chosen = {**default_args, **given}
    common = {**everybody, **_FIXED, **_PLAN, **_MERGE}
    rested = {**common, **_retrying(default_args, RETRIES)}
    wanted = {name: chosen.get(name, ours) for name, ours in _PLAN.items()}
    wanted["trigger_rule"] = given.get("trigger_rule", TriggerRule.ALL_SUCCESS)
    # The step is one unit: plan's success in the run before does not mean that its result is published.
    for flag in _WAITING:
        wanted[flag] = any(wanted[name] for name in _WAITING)
    shards = {
        **common,
        **_retrying(chosen, _shard_retries(config)),
        **{name: given[name] for name in ("execution_timeout",) if name in given},
        "map_index_template": "{{ task.shard['label'] }}",
        "max_active_tis_per_dagrun": shard_limit(config),
        **target,
    }
    dealt = Dealt(
        plan={**common, **wanted},
        mini_batches=shards,
        gatekeeper={
            **rested,
            # It includes the time for which a task is deferred, and a run may take days.
            "execution_timeout": None,
            # The first success upstream is plan's, so it runs beside the shards.
            "trigger_rule": TriggerRule.ONE_SUCCESS,
            # A gatekeeper that looks again must not take the slot of a waiting shard; nodes check the thresholds, too.
            "priority_weight": chosen.get("priority_weight", DEFAULT_PRIORITY_WEIGHT) - 1,
        },
        merge={
            **rested,
            "trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            **{name: chosen.get(name, ours) for name, ours in _MERGE.items()},
        },
    )
    return Dealt(**{task: documented(task, _own_lists(getattr(dealt, task)), default_args) for task in dealt.__slots__})


def _own_lists(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with lists of its own: Airflow appends to an operator's inlets and outlets."""
    return {name: list(value) if isinstance(value, list) else value for name, value in arguments.items()}


def shard_limit(config: ParallelRunConfig) -> int | None:
    """
    Return how many shards may run at a time, as far as that is known when the DAG is parsed.

    :return: None for a promoted node_count without a maximum: there are then as many shards as nodes.
    """
    nodes = config.node_count
    if isinstance(nodes, int):
        return nodes
    return None if nodes.maximum is None else int(nodes.maximum)


def _shard_retries(config: ParallelRunConfig) -> int:
    tries = config.run_max_try
    # A mini-batch that kills its node each time does so once or twice before it is tried alone.
    return (tries if isinstance(tries, int) else int(tries.default_value)) + 2


def _retrying(chosen: Mapping[str, Any], retries: int) -> dict[str, Any]:
    return {"retries": chosen.get("retries", retries), "retry_delay": chosen.get("retry_delay", RETRY_DELAY_S)}
