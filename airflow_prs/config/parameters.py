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
class Words:
    """
    How the form of a run describes a field.

    :param title: what the field is, with the unit of its values.
    :param effect: what changes with the value; '' if only the author of the DAG knows.
    :param empty: what happens without a value, where none is needed.
    :param examples: values that the form suggests.
    :param has_lines: whether each line of a text is a value.
    """

    title: str
    effect: str = ""
    empty: str = ""
    examples: tuple[str, ...] = ()
    has_lines: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """
    A parameter as the form of a run shows it.

    :param parameter: the parameter.
    :param fields: the places that use it; several places may share one parameter.
    :param rules: JSON schema of the values that a run may choose.
    :param look: the other entries of the schema, which choose the words and the kind of the field.
    :param description: what changes with the value, and the values that are allowed.
    """

    parameter: PipelineParameter
    fields: tuple[str, ...]
    rules: Mapping[str, Any]
    look: Mapping[str, Any]
    description: str


def promote(parameter: PipelineParameter, field: str, schema: Mapping[str, Any], words: Words) -> Promotion:
    """
    Return a parameter with the schema of its field, narrowed by its bounds.

    :param words: how the form describes the field. The parameter's own description has priority over the effect.
    """
    rules = {key: value for key, value in schema.items() if not parameter.has_bounds or key != "pattern"}
    if parameter.has_bounds:
        rules["type"] = _without_text(schema.get("type", "number"))
    if parameter.minimum is not None:
        rules["minimum"] = max(parameter.minimum, schema.get("minimum", parameter.minimum))
    if parameter.maximum is not None:
        rules["maximum"] = min(parameter.maximum, schema.get("maximum", parameter.maximum))
    described = [parameter.description or words.effect, _range_of(rules)]
    if words.empty and "null" in _types(rules):
        described.append(f"Empty: {words.empty}.")
    shown_rules, look = _with_small_field(rules, parameter.default_value, words)
    return Promotion(
        parameter=parameter,
        fields=(field,),
        rules=shown_rules,
        look={"title": words.title, **look},
        description=" ".join(map(_sentence, filter(None, described))),
    )


def title_of(name: str) -> str:
    """Return the title of a field that has nothing but a name."""
    words = name.replace("_", " ").strip() or name
    return words[0].upper() + words[1:]


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
        if first.parameter != promotion.parameter or first.rules != promotion.rules:
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


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _without_text(types: Any) -> Any:
    numeric = [kind for kind in ([types] if isinstance(types, str) else types) if kind in {"integer", "number", "null"}]
    return numeric[0] if len(numeric) == 1 else numeric


def _range_of(schema: Mapping[str, Any]) -> str:
    """Return in words which numbers are allowed; '' if text is allowed, too."""
    if not {"integer", "number"} & set(_types(schema)) or "string" in _types(schema):
        return ""
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"Allowed: {least} to {most}."
    if least is None and most is None:
        return ""
    return f"Allowed: at least {least}." if most is None else f"Allowed: at most {most}."


def _with_small_field(
    schema: Mapping[str, Any], default: Any, words: Words
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """
    Return a schema, and what else the form needs to show a field of one line, or one with a line for each value.

    From Airflow 3.3 on, the form shows JSON in six lines for a schema of several types, unless it has examples. With
    examples, and before 3.3, the first type chooses the field.
    """
    types = _types(schema)
    if len([kind for kind in types if kind != "null"]) < 2 or "enum" in schema:  # noqa: PLR2004  (a single type)
        return schema, {}
    if "array" in types:
        if isinstance(default, list):
            # Without a type, the form shows a field for the default: a line for each element of a list.
            return {**_without_type(schema), "anyOf": [{"type": kind} for kind in types]}, {}
        if default is None:
            return {**schema, "type": ["array", "null"]}, {}
        return schema, ({"format": "multiline"} if words.has_lines else {})
    if words.examples and "string" in types:
        return schema, {"examples": list(words.examples)}
    first = _KINDS.get(type(default), types[0])
    others = [kind for kind in types if kind != first]
    return {**schema, "type": [first, *others]}, {"examples": [] if default is None else [default]}


def _without_type(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "type"}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124  (NaN)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
