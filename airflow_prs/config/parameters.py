"""Parameters of a run: values that a user chooses when triggering a run, instead of in the DAG file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_prs.config.declaring import declared
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown


@declared
@dataclass(frozen=True, slots=True)
class PipelineParameter:
    """
    Stands for a value that a run may choose; the DAG gets an Airflow Param of this name.

    :param name: name of the Param; letters, digits and underscores, no digit first.
    :param default_value: used where a run does not choose; plain JSON.
    :param description: shown in the form of "Trigger DAG w/ config".
    :param minimum: smallest number that a run may choose.
    :param maximum: largest number that a run may choose.
    """

    name: str
    default_value: Any
    description: str | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError(problems)

    @property
    def has_bounds(self) -> bool:
        """Whether a minimum or maximum is given, so that only numbers may be chosen."""
        return self.minimum is not None or self.maximum is not None

    def find_problem(self, value: Any) -> str | None:
        """Return why the bounds do not allow a value; None: they allow it."""
        if value is None or not self.has_bounds:
            return None
        if not _is_number(value):
            return f"{shown(value)} is not a number, but a minimum or maximum is given"
        if self.minimum is not None and value < self.minimum:
            return f"{value} is less than the minimum {self.minimum}"
        if self.maximum is not None and value > self.maximum:
            return f"{value} is more than the maximum {self.maximum}"
        return None

    def _problems(self) -> Iterator[str]:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            yield f"name of a PipelineParameter is {shown(self.name)}; allowed: letters, digits, underscores"
        if self.description is not None and not isinstance(self.description, str):
            yield self._worded(f"the description is {shown(self.description)}; allowed: text")
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if not all(map(_is_number, bounds)):
            yield self._worded(f"minimum {shown(self.minimum)}, maximum {shown(self.maximum)}; allowed: numbers")
        elif bounds != sorted(bounds):
            yield self._worded(f"the minimum {self.minimum} is more than the maximum {self.maximum}")
        elif problem := self.find_problem(self.default_value):
            yield self._worded(f"the default {problem}")
        if not _is_json(self.default_value):
            yield self._worded(f"the default is {shown(self.default_value)}; allowed: plain JSON values")

    def _worded(self, problem: str) -> str:
        return f"PipelineParameter {shown(self.name)}: {problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """
    A parameter as the form of a run shows it.

    :param parameter: the parameter.
    :param fields: the places that use it; several places may share one parameter.
    :param schema: JSON schema of the values that a run may choose.
    """

    parameter: PipelineParameter
    fields: tuple[str, ...]
    schema: Mapping[str, Any]


def promote(parameter: PipelineParameter, field: str, schema: Mapping[str, Any], *, allowed: str) -> Promotion:
    """
    Return a parameter with the schema of its field, narrowed by its bounds.

    :param allowed: what the field allows: the description, if the parameter has none.
    """
    narrowed = {key: value for key, value in schema.items() if not parameter.has_bounds or key != "pattern"}
    if parameter.has_bounds:
        narrowed["type"] = _without_text(schema.get("type", "number"))
    if parameter.minimum is not None:
        narrowed["minimum"] = max(parameter.minimum, schema.get("minimum", parameter.minimum))
    if parameter.maximum is not None:
        narrowed["maximum"] = min(parameter.maximum, schema.get("maximum", parameter.maximum))
    narrowed["description"] = parameter.description or f"{field}: {allowed}"
    return Promotion(parameter=parameter, fields=(field,), schema=narrowed)


def combine_promotions(promotions: Iterable[Promotion]) -> dict[str, Promotion]:
    """
    Return promotions by name; equal ones may share a name.

    :raises ConfigError: if different ones have the same name.
    """
    combined: dict[str, Promotion] = {}
    problems = []
    for promotion in promotions:
        name = promotion.parameter.name
        first = combined.setdefault(name, promotion)
        if first is promotion:
            continue
        if first.parameter != promotion.parameter or _rules_of(first) != _rules_of(promotion):
            problems.append(
                f"{promotion.fields[0]} is the PipelineParameter {name!r}, which stands for something else in "
                f"{first.fields[0]}; give one of them another name"
            )
        else:
            combined[name] = replace(first, fields=first.fields + promotion.fields)
    if problems:
        raise ConfigError(problems)
    return combined


def fill_in(value: Any, params: Mapping[str, Any]) -> Any:
    """Return a value with the run's value or the default in place of each PipelineParameter, at any depth."""
    if isinstance(value, PipelineParameter):
        return params.get(value.name, value.default_value)
    if isinstance(value, Mapping):
        return {key: fill_in(inner, params) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fill_in(inner, params) for inner in value)
    return value


def find_parameters(value: Any) -> Iterator[PipelineParameter]:
    """Yield each PipelineParameter in a value, also inside lists, tuples and dicts."""
    if isinstance(value, PipelineParameter):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from find_parameters(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from find_parameters(inner)


def _without_text(types: Any) -> Any:
    numeric = [kind for kind in ([types] if isinstance(types, str) else types) if kind in {"integer", "number", "null"}]
    return numeric[0] if len(numeric) == 1 else numeric


def _rules_of(promotion: Promotion) -> dict[str, Any]:
    return {key: value for key, value in promotion.schema.items() if key != "description"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124  (NaN)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
