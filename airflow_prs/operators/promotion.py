"""Parameters of a run as Params of the DAG, so that "Trigger DAG" shows them in its form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from airflow.sdk import Param

from airflow_prs.config.parameters import Promotion
from airflow_prs.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import DAG


def add_params(dag: DAG, promotions: Mapping[str, Promotion]) -> None:
    """
    Add parameters to a DAG. Steps that promote the same name with the same schema share one.

    :raises ConfigError: if the DAG uses one of the names for something else.
    """
    if problems := list(_conflicts(dag, promotions)):
        raise ConfigError(problems)
    for name, promotion in promotions.items():
        if name not in dag.params:
            dag.params[name] = _param(promotion)


def _param(promotion: Promotion) -> Param:
    schema = {key: value for key, value in promotion.schema.items() if key != "description"}
    return Param(promotion.parameter.default_value, description=promotion.schema.get("description"), schema=schema)


def _conflicts(dag: DAG, promotions: Mapping[str, Promotion]) -> Iterator[str]:
    for name, promotion in promotions.items():
        if name not in dag.params:
            continue
        ours, there = _param(promotion), dag.params.get_param(name)
        if (there.value, there.schema) != (ours.value, ours.schema):
            yield (
                f"{', '.join(promotion.fields)} is the PipelineParameter {name!r} (default {ours.value!r}, schema "
                f"{ours.schema}), but the DAG has a param of that name with default {there.value!r} and schema "
                f"{there.schema}; give one of them another name"
            )
