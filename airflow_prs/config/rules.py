"""What each parameter of ParallelRunConfig may be: one rule a parameter, and the rules between them."""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from airflow_prs.config.compute import ComputeTarget
from airflow_prs.config.datasets import FileDataset
from airflow_prs.config.environment import Environment
from airflow_prs.config.function_script import FunctionScript
from airflow_prs.config.parameters import PipelineParameter, Promotion, combine_promotions, promote
from airflow_prs.config.sizes import MEMORY_PATTERN, SIZE_ALLOWED, SIZE_PATTERN, parse_size, settle_size
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, wrong

LOGGING_LEVELS = ("WARNING", "INFO", "DEBUG")
OUTPUT_ACTIONS = ("append_row", "summary_only")

SUFFIX_OF_FORMAT = {"text": ".txt", "csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}
APPEND_ROW_FORMATS = tuple(SUFFIX_OF_FORMAT)

OURS = (
    "mini_batches_per_task",
    "append_row_format",
    "count_failed_tries",
    "retry_delay_s",
    "max_mini_batches_per_process",
    "max_memory_per_process",
    "max_concurrency_per_process",
    "exit_timeout_s",
)
"""What the original does not know: by name only, and in a YAML file only where it has not its default."""

_FORBIDDEN = '~"#%&*:<>?/\\{|}'
_FILE_NAME = re.compile(rf"(?!\.{{1,2}}$)[^{re.escape(_FORBIDDEN)}\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    What one parameter may be.

    :param allowed: in words.
    :param parse: gives the value as it is kept; raises TypeError or ValueError if it is not allowed.
    :param schema: JSON schema of its values; None: a PipelineParameter may not stand for it.
    """

    allowed: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any] | None = None


def settle(name: str, value: Any) -> Any:
    """
    Give a parameter's value as it is kept; a PipelineParameter stays, if its default is allowed.

    :raises ValueError: with the problem in words.
    """
    rule = RULES[name]
    if isinstance(value, PipelineParameter):
        _check_parameter(name, value, rule)
        return value
    try:
        return rule.parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(_word(name, value, rule, error)) from None


def promotion(name: str, parameter: PipelineParameter) -> Promotion:
    """Describe a promoted parameter for the form of a run."""
    rule = RULES[name]
    return promote(parameter, name, rule.schema or {}, allowed=rule.allowed)


def find_conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the conflicts between parameters, whether or not each is valid alone."""
    size, keys = _default(values.get("mini_batch_size")), _default(values.get("partition_keys"))
    if size is not None and keys is not None:
        yield f"mini_batch_size is {shown(size)} and partition_keys is {shown(keys)}; allowed: one of the two"
    yield from _find_wrong_suffix(
        _default(values.get("append_row_format")), _default(values.get("append_row_file_name"))
    )
    entry, source = values.get("entry_script"), values.get("source_directory")
    if source is not None and isinstance(entry, str) and _leaves_folder(entry.strip()):
        yield f"entry_script is {shown(entry)}; allowed: a path inside of source_directory, relative to it"
    nodes = values.get("node_count")
    if (
        values.get("mini_batches_per_task") is not None
        and isinstance(nodes, PipelineParameter)
        and nodes.maximum is None
    ):
        yield (
            f"node_count is the PipelineParameter {nodes.name!r} without a maximum; together with mini_batches_per_task"
            " it needs one, since Airflow fixes how many shards run at a time when it reads the DAG"
        )
    try:
        combine_promotions(find_promotions(values))
    except ConfigError as error:
        yield from error.problems


def _find_wrong_suffix(result_format: Any, file_name: Any) -> Iterator[str]:
    """
    Find a format that contradicts the suffix of a name.

    Text goes into any file but Parquet, since rows of str may be what the suffix says; a .txt may hold any text.
    """
    if result_format not in APPEND_ROW_FORMATS or not isinstance(file_name, str):
        return
    suffix = PurePath(file_name).suffix.lower()
    is_parquet = result_format == "parquet"
    wrong_ones = set(SUFFIX_OF_FORMAT.values()) - {SUFFIX_OF_FORMAT[result_format]}
    if not is_parquet:
        wrong_ones = {".parquet"} if result_format == "text" else wrong_ones - {".txt"}
    if suffix in wrong_ones:
        yield (
            f"append_row_file_name is {shown(file_name)} and append_row_format is {shown(result_format)}; allowed: "
            f"a name that ends in {SUFFIX_OF_FORMAT[result_format]!r}, or one of the two alone"
        )


def find_promotions(values: Mapping[str, Any]) -> Iterator[Promotion]:
    """Find the parameters that a PipelineParameter stands for."""
    for name, value in values.items():
        if isinstance(value, PipelineParameter) and name in RULES and RULES[name].schema is not None:
            yield promotion(name, value)


def _check_parameter(name: str, parameter: PipelineParameter, rule: Rule) -> None:
    if rule.schema is None:
        raise ValueError(f"{name} is the PipelineParameter {parameter.name!r}; allowed: only {rule.allowed}")
    if parameter.has_bounds and not {"integer", "number"} & set(_types(rule.schema)):
        raise ValueError(f"{name} is no number, but its PipelineParameter {parameter.name!r} has a minimum or maximum")
    try:
        rule.parse(parameter.default_value)
    except (TypeError, ValueError) as error:
        problem = _word(name, parameter.default_value, rule, error)
        raise ValueError(f"{problem} (the default of PipelineParameter {parameter.name!r})") from None


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema["type"]
    return [types] if isinstance(types, str) else types


def _word(name: str, value: Any, rule: Rule, error: Exception) -> str:
    return (
        f"{error}; allowed: {rule.allowed}" if isinstance(error, _ExplainedError) else wrong(name, value, rule.allowed)
    )


class _ExplainedError(ValueError):
    """Says what is wrong with a value, where to show the value would not help, or tell a secret."""


def _default(value: Any) -> Any:
    return value.default_value if isinstance(value, PipelineParameter) else value


def _leaves_folder(path: str) -> bool:
    return PurePath(path).is_absolute() or PurePath(os.path.normpath(path)).parts[0] == os.pardir


def _whole(minimum: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = operator.index(value)
        if isinstance(value, bool) or number < minimum:
            raise ValueError
        return int(number)

    return parse


def _optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else parse(value)


def _percent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004
        raise ValueError
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError
    return value


def _memory(value: Any) -> int | str:
    size = settle_size(value)
    if parse_size(size).unit == "rows":
        raise ValueError
    return size


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _stripped(value: Any) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else _text(value)
    if not isinstance(text, str) or not text.strip():
        raise ValueError
    return text.strip()


def _one_of(words: tuple[str, ...], *, fold: Callable[[str], str] = str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = fold(_text(value))
        if word not in words:
            raise ValueError
        return word

    return parse


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _keys(value: Any) -> tuple[str, ...]:
    # the default of a PipelineParameter for it is a JSON list in a str
    keys = json.loads(value) if isinstance(value, str) else value
    if not isinstance(keys, list | tuple) or not keys or len(set(keys)) < len(keys):
        raise ValueError
    return tuple(_stripped(key) for key in keys)


def _file_name(value: Any) -> str:
    if not _FILE_NAME.fullmatch(_text(value)):
        raise ValueError
    return str(value)


def _script(value: Any) -> str | FunctionScript:
    return value if isinstance(value, FunctionScript) else _stripped(value)


def _environment(value: Any) -> Environment:
    return value if isinstance(value, Environment) else Environment.from_python(_stripped(value))


def _compute_target(value: Any) -> ComputeTarget | str:
    return value if isinstance(value, ComputeTarget) else _text(_stripped(_text(value)))


def _variables(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _ExplainedError(f"environment_variables is of type {type(value).__name__}")
    for name, content in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise _ExplainedError(f"environment_variables has the name {shown(name)}")
        if not isinstance(content, str) and not _is_filled_in_later(content):
            raise _ExplainedError(f"environment_variables[{name!r}] is of type {type(content).__name__}")
        if isinstance(content, str) and "\0" in content:
            raise _ExplainedError(f"environment_variables[{name!r}] holds a null character")
    return dict(value)


def _is_filled_in_later(value: Any) -> bool:
    """What another task returns, or a side input."""
    return hasattr(value, "iter_references") or isinstance(value, FileDataset)


def _at_least(minimum: int) -> Rule:
    return Rule(
        allowed=f"an int of at least {minimum}",
        parse=_whole(minimum),
        schema={"type": "integer", "minimum": minimum},
    )


def _or_none(rule: Rule, none: str = "None") -> Rule:
    schema = None if rule.schema is None else {**rule.schema, "type": [*_types(rule.schema), "null"]}
    if schema is not None and "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return Rule(allowed=f"{rule.allowed}, or {none}", parse=_optional(rule.parse), schema=schema)


_IGNORE = " (-1 ignores all)"
_THRESHOLD = Rule(
    allowed=f"an int of at least -1{_IGNORE}", parse=_whole(-1), schema={"type": "integer", "minimum": -1}
)

_SECONDS = Rule(allowed="a number of at least 0, in seconds", parse=_seconds, schema={"type": "number", "minimum": 0})

RULES: Mapping[str, Rule] = {
    "environment": Rule(
        allowed="an Environment, or the path of an interpreter or virtual environment", parse=_environment
    ),
    "entry_script": Rule(allowed="the path of a Python script", parse=_script),
    "error_threshold": _THRESHOLD,
    "output_action": Rule(
        allowed="'append_row' or 'summary_only'", parse=_one_of(OUTPUT_ACTIONS, fold=lambda word: word.strip().lower())
    ),
    "compute_target": Rule(allowed="a ComputeTarget, or the name of a declared one ('local')", parse=_compute_target),
    "node_count": _at_least(1),
    "process_count_per_node": _or_none(_at_least(1), "None for one a core"),
    "mini_batch_size": _or_none(
        Rule(
            allowed=SIZE_ALLOWED,
            parse=settle_size,
            schema={"type": ["integer", "string"], "minimum": 1, "pattern": SIZE_PATTERN},
        ),
        "None for 10 files or 1 MB of a table",
    ),
    "source_directory": _or_none(Rule(allowed="the path of a folder", parse=_stripped)),
    "description": _or_none(Rule(allowed="text", parse=_text)),
    "logging_level": Rule(
        allowed="'WARNING', 'INFO' or 'DEBUG'",
        parse=_one_of(LOGGING_LEVELS),
        schema={"type": "string", "enum": list(LOGGING_LEVELS)},
    ),
    "run_invocation_timeout": Rule(
        allowed="an int of at least 1, in seconds", parse=_whole(1), schema={"type": "integer", "minimum": 1}
    ),
    "run_max_try": _at_least(1),
    "append_row_file_name": _or_none(
        Rule(
            allowed=f"a file name other than '', '.' and '..', without control characters and any of {_FORBIDDEN}",
            parse=_file_name,
            schema={"type": "string", "minLength": 1},
        ),
        "None for parallel_run_step with the suffix of its format",
    ),
    "allowed_failed_count": _or_none(_THRESHOLD),
    "allowed_failed_percent": _or_none(
        Rule(
            allowed="a number from 0 to 100 (100 ignores all)",
            parse=_percent,
            schema={"type": "number", "minimum": 0, "maximum": 100},
        )
    ),
    "partition_keys": _or_none(
        Rule(
            allowed="a list of different str",
            parse=_keys,
            schema={"type": ["array", "string"], "minItems": 1, "items": {"type": "string"}},
        )
    ),
    "environment_variables": _or_none(
        Rule(allowed="a dict of str to str (templates and side inputs too)", parse=_variables)
    ),
    "mini_batches_per_task": _or_none(_at_least(1), "None for one shard a node"),
    "append_row_format": _or_none(
        Rule(
            allowed="'text', 'csv', 'jsonl' or 'parquet'",
            parse=_one_of(APPEND_ROW_FORMATS),
            schema={"type": "string", "enum": list(APPEND_ROW_FORMATS)},
        ),
        "None for what the suffix of append_row_file_name says",
    ),
    "count_failed_tries": Rule(allowed="True or False", parse=_flag, schema={"type": "boolean"}),
    "retry_delay_s": _SECONDS,
    "max_mini_batches_per_process": _or_none(_at_least(1), "None for no limit"),
    "max_memory_per_process": _or_none(
        Rule(
            allowed="an int of at least 1, in bytes, or a str such as '500MB' or '2GB'",
            parse=_memory,
            schema={"type": ["integer", "string"], "minimum": 1, "pattern": MEMORY_PATTERN},
        ),
        "None for no limit",
    ),
    "max_concurrency_per_process": _at_least(1),
    "exit_timeout_s": _SECONDS,
}
