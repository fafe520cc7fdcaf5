"""The arguments of Airflow's operators, dealt out to the four tasks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import BaseOperator, TriggerRule

from airflow_prs.airflow_side.failures import unless_aborted
from airflow_prs.config.config import ParallelRunConfig

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
"""What plan alone gets, with what the others get instead: a shard that waits for the run before may wait for ever."""

_MERGE: dict[str, Any] = {"outlets": [], "on_success_callback": None}
"""What merge alone gets, with what the others get instead."""

_MINI_BATCHES = ("retries", "retry_delay", "execution_timeout")
"""What mini_batches alone gets if it is given to the step itself; default_args reach the other tasks too."""

_FIXED = {
    "do_xcom_push": True,
    "multiple_outputs": False,
    "map_index_template": None,
    "max_active_tis_per_dagrun": None,
}
"""What no default_args may change."""

_OURS = {
    "map_index_template": "shards have labels of their own",
    "max_active_tis_per_dagrun": "give node_count, which is that limit",
    "do_xcom_push": "the tasks of the step hand each other what they know through XComs",
    "multiple_outputs": "the result is one location",
}
"""What nobody may set, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """The arguments of each task."""

    plan: dict[str, Any]
    mini_batches: dict[str, Any]
    gatekeeper: dict[str, Any]
    merge: dict[str, Any]


def check_task_arguments(given: Mapping[str, Any], operator_name: str) -> None:
    """
    Refuse arguments that Airflow's operators do not have, as Airflow would.

    :raises TypeError: naming them.
    """
    if unknown := sorted(set(given) - set(inspect.signature(BaseOperator.__init__).parameters)):
        raise TypeError(f"Invalid arguments were passed to {operator_name}: {', '.join(unknown)}")
    if fixed := [f"{name} ({_OURS[name]})" for name in sorted(set(given) & set(_OURS))]:
        raise TypeError(f"{operator_name} does not take {', '.join(fixed)}")


def deal(
    config: ParallelRunConfig, given: Mapping[str, Any], default_args: Mapping[str, Any], target: Mapping[str, Any]
) -> Dealt:
    """
    Deal out the arguments: what is given to the step wins, then default_args, then our own defaults.

    default_args reach the tasks through Airflow; whatever must not is named here for each task.

    :param given: to the step itself.
    :param default_args: of the DAG and the groups around.
    :param target: arguments of the compute target, which has the last word on mini_batches.
    """
    alone = {*_PLAN, *_MERGE, *_MINI_BATCHES, "on_failure_callback"}
    everybody = {name: value for name, value in given.items() if name not in alone}
    failed = _first("on_failure_callback", given, default_args, None)
    common = {**everybody, **_FIXED, **_PLAN, **_MERGE, "on_failure_callback": failed}
    rested = {**common, **_retrying({}, default_args, RETRIES)}
    wanted = {name: _first(name, given, default_args, ours) for name, ours in _PLAN.items()}
    wanted["trigger_rule"] = given.get("trigger_rule", TriggerRule.ALL_SUCCESS)
    shards = {
        **common,
        **_retrying(given, default_args, _shard_retries(config)),
        **{name: given[name] for name in ("execution_timeout",) if name in given},
        "on_failure_callback": unless_aborted(failed),
        "map_index_template": "{{ task.shard['label'] }}",
        "max_active_tis_per_dagrun": shard_limit(config),
        **target,
    }
    dealt = Dealt(
        plan={**common, **wanted},
        mini_batches=shards,
        gatekeeper={**rested, **_stepping_back(given, default_args)},
        merge={
            **rested,
            "trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            **{name: _first(name, given, default_args, ours) for name, ours in _MERGE.items()},
        },
    )
    return Dealt(**{task: _own_lists(getattr(dealt, task)) for task in dealt.__slots__})


def _own_lists(arguments: dict[str, Any]) -> dict[str, Any]:
    """Airflow adds to an operator's inlets and outlets."""
    return {name: list(value) if isinstance(value, list) else value for name, value in arguments.items()}


def shard_limit(config: ParallelRunConfig) -> int | None:
    """
    Say how many shards may run at a time, as far as that is known when the DAG is parsed.

    :return: None for a promoted node_count without mini_batches_per_task: there are as many shards as nodes.
    """
    nodes = config.node_count
    if isinstance(nodes, int):
        return nodes
    return None if nodes.maximum is None else int(nodes.maximum)


def _shard_retries(config: ParallelRunConfig) -> int:
    tries = config.run_max_try
    return (tries if isinstance(tries, int) else int(tries.default_value)) + 1


def _retrying(given: Mapping[str, Any], default_args: Mapping[str, Any], retries: int) -> dict[str, Any]:
    return {
        "retries": _first("retries", given, default_args, retries),
        "retry_delay": _first("retry_delay", given, default_args, RETRY_DELAY_S),
    }


def _stepping_back(given: Mapping[str, Any], default_args: Mapping[str, Any]) -> dict[str, Any]:
    weight = _first("priority_weight", given, default_args, DEFAULT_PRIORITY_WEIGHT)
    return {
        # A deferred task's time runs on while it waits, and a run may take days.
        "execution_timeout": None,
        # Gatekeepers that look again while shards wait for slots would take those; nodes judge for themselves.
        "priority_weight": weight - 1,
    }


def _first(name: str, given: Mapping[str, Any], default_args: Mapping[str, Any], ours: Any) -> Any:
    return given[name] if name in given else default_args.get(name, ours)
