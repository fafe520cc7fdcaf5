"""Parameters of a run as Params of the DAG, so that "Trigger DAG" shows them in its form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from airflow_prs.config.parameters import Promotion
from airflow_prs.errors import ConfigError
from airflow_prs.wording import nearest, shown

if TYPE_CHECKING:
    from airflow.sdk import DAG

NEAR_MISS_LIKENESS = 0.8
"""How similar a key must be to the name of a parameter to count as a misspelled one."""

SHARED_SECTION = "Several steps"

_LOOK = frozenset({"title", "section", "examples", "description_md", "values_display"})
"""Entries of a schema that change what the form shows, but not which values are allowed."""


def add_params(dag: DAG, promotions: Mapping[str, Promotion], *, section: str) -> None:
    """
    Add parameters to a DAG. Steps that promote the same name with the same rules share one.

    :param section: of the form, for parameters that no other step has.
    :raises ConfigError: if the DAG uses one of the names for something else.
    """
    if problems := list(_conflicts(dag, promotions)):
        raise ConfigError(problems)
    for name, promotion in promotions.items():
        if name not in dag.params:
            dag.params[name] = _param(promotion, section)
        elif _is_of_a_step(there := dag.params.get_param(name), promotion):
            there.schema["section"] = SHARED_SECTION


def check_conf(conf: Mapping[str, Any] | None, dag: DAG, promoted: Iterable[str]) -> None:
    """
    Check that no key in the configuration of a run is a misspelled parameter of a step.

    :param conf: what "Trigger DAG", the API or ``--conf`` passed to the run; None: nothing.
    :param dag: the DAG, whose params and those of its tasks are right names.
    :param promoted: the names of the step's parameters. Keys that are similar to none of them are for other tasks.
    :raises ConfigError: with all keys that look like one of these names.
    """
    given = conf or {}
    known = {*dag.params, *(name for task in dag.tasks for name in task.params)}
    meant = {key: nearest(key, promoted, likeness=NEAR_MISS_LIKENESS) for key in given if key not in known}
    if problems := [
        f"{key} is {shown(given[key])} in the conf of the run, but the DAG has no such param; did you mean {name!r}?"
        for key, name in meant.items()
        if name is not None
    ]:
        raise ConfigError(problems)


def _param(promotion: Promotion, section: str) -> Param:
    schema = {**promotion.rules, **promotion.look, "section": section}
    return Param(promotion.parameter.default_value, description=promotion.description, schema=schema)


def _is_of_a_step(there: Param, promotion: Promotion) -> bool:
    """Whether another step made a Param. The author's own stays as it is."""
    ours = _param(promotion, str(there.schema.get("section")))
    return (there.schema, there.description) == (ours.schema, ours.description)


def _conflicts(dag: DAG, promotions: Mapping[str, Promotion]) -> Iterator[str]:
    for name, promotion in promotions.items():
        if name not in dag.params:
            continue
        there, default = dag.params.get_param(name), promotion.parameter.default_value
        rules = {
            key: value
            for key, value in there.schema.items()
            if key not in _LOOK and (key, value) != ("format", "multiline")
        }
        if (there.value, _in_any_order(rules)) != (default, _in_any_order(promotion.rules)):
            yield (
                f"{', '.join(promotion.fields)} is the PipelineParameter {name!r} (default {default!r}, schema "
                f"{promotion.rules}), but the DAG has a param of that name with default {there.value!r} and schema "
                f"{rules}; give one of them another name"
            )


def _in_any_order(rules: Mapping[str, Any]) -> dict[str, Any]:
    types = rules.get("type")
    return {**rules, "type": sorted(types)} if isinstance(types, list) else dict(rules)
