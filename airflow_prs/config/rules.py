"""What parameters of ParallelRunConfig may be: the rules that its fields are annotated with, and those between them."""

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
from airflow_prs.config.declaring import Refused
from airflow_prs.config.environment import Environment
from airflow_prs.config.form import FORM
from airflow_prs.config.function_script import FunctionScript
from airflow_prs.config.parameters import PipelineParameter, Promotion, combine_promotions, promote
from airflow_prs.config.sizes import MEMORY_PATTERN, SIZE_ALLOWED, SIZE_PATTERN, normalize_memory, normalize_size
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, wrong

SUFFIX_OF_FORMAT = {"text": ".txt", "csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}

_WRONG_SUFFIXES = {
    "text": {".parquet"},  # rows of str may be what any other suffix says
    "csv": {".jsonl", ".parquet"},
    "jsonl": {".csv", ".parquet"},
    "parquet": {".txt", ".csv", ".jsonl"},
}
_FORBIDDEN = '~"#%&*:<>?/\\{|}'
_FILE_NAME = re.compile(rf"(?!\.{{1,2}}$)[^{re.escape(_FORBIDDEN)}\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """
    What one parameter may be.

    :param allowed: what is allowed, in words.
    :param parse: returns the value as it is kept; raises TypeError or ValueError if it is not allowed.
    :param schema: JSON schema of its values; None: a PipelineParameter may not stand for it.
    """

    allowed: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any] | None = None

    def or_none(self, none: str = "None") -> Rule:
        """
        Return the rule that allows None as well.

        :param none: None and its meaning, in words.
        """
        schema = None if self.schema is None else {**self.schema, "type": [*_types(self.schema), "null"]}
        if schema is not None and "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        return Rule(f"{self.allowed}, or {none}", lambda value: None if value is None else self.parse(value), schema)

    def check(self, name: str, value: Any) -> Any:
        """
        Return the value of a parameter as it is kept; a PipelineParameter stays, if its default is allowed.

        :raises ValueError: with the problem in words.
        """
        is_promoted = isinstance(value, PipelineParameter)
        if is_promoted:
            self._check_promotion(name, value)
        given = default_of(value)
        try:
            kept = self.parse(given)
        except (TypeError, ValueError) as error:
            is_explained = isinstance(error, _ExplainedError)
            problem = f"{error}; allowed: {self.allowed}" if is_explained else wrong(name, given, self.allowed)
            source = f" (the default of PipelineParameter {value.name!r})" if is_promoted else ""
            raise ValueError(problem + source) from None
        return value if is_promoted else kept

    def _check_promotion(self, name: str, parameter: PipelineParameter) -> None:
        given = f"PipelineParameter {parameter.name!r}"
        if self.schema is None:
            raise ValueError(f"{name} is the {given}; allowed: only {self.allowed}")
        if parameter.has_bounds and not {"integer", "number"} & set(_types(self.schema)):
            raise ValueError(f"{name} is not a number, but its {given} has a minimum or maximum")


def at_least(minimum: int, note: str = "") -> Rule:
    """Return the rule of an int."""

    def parse(value: Any) -> int:
        number = operator.index(value)
        if isinstance(value, bool) or number < minimum:
            raise ValueError
        return int(number)

    return Rule(f"an int of at least {minimum}{note}", parse, {"type": "integer", "minimum": minimum})


def number(allowed: str, **bounds: float) -> Rule:
    """Return the rule of a finite number with a ``minimum`` and perhaps a ``maximum``."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value == math.inf:
            raise ValueError
        if not bounds["minimum"] <= value <= bounds.get("maximum", math.inf):
            raise ValueError
        return value

    return Rule(allowed, parse, {"type": "number", **bounds})


def one_of(*words: str) -> Rule:
    """Return the rule of a word."""

    def parse(value: Any) -> str:
        if _text(value) not in words:
            raise ValueError
        return str(value)

    *others, last = map(repr, words)
    return Rule(f"{', '.join(others)} or {last}", parse, {"type": "string", "enum": list(words)})


def find_conflicts(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[str]:
    """Yield the conflicts between parameters, whether or not each is valid alone."""
    defaults = {name: default_of(value) for name, value in values.items()}
    size, keys = defaults.get("mini_batch_size"), defaults.get("partition_keys")
    if size is not None and keys is not None:
        yield f"mini_batch_size is {shown(size)} and partition_keys is {shown(keys)}; allowed: one of the two"
    file_name, wanted = defaults.get("append_row_file_name"), str(defaults.get("append_row_format"))
    if isinstance(file_name, str) and PurePath(file_name).suffix.lower() in _WRONG_SUFFIXES.get(wanted, ()):
        yield (
            f"append_row_file_name is {shown(file_name)} and append_row_format is {shown(wanted)}; allowed: "
            f"a name that ends in {SUFFIX_OF_FORMAT[wanted]!r}, or one of the two alone"
        )
    entry, source = values.get("entry_script"), values.get("source_directory")
    if source is not None and isinstance(entry, str) and _leaves_folder(entry.strip()):
        yield f"entry_script is {shown(entry)}; allowed: a path inside of source_directory, relative to it"
    if defaults.get("bisect_failed_mini_batches") is True:
        yield from _what_cannot_be_split(keys, defaults.get("output_action"))
    per_task, nodes = values.get("mini_batches_per_task"), values.get("node_count")
    if per_task is not None and isinstance(nodes, PipelineParameter) and nodes.maximum is None:
        yield (
            f"node_count is the PipelineParameter {nodes.name!r} without a maximum; together with mini_batches_per_task"
            " it needs one, since Airflow fixes how many shards run at a time when it reads the DAG"
        )
    try:
        combine_promotions(find_promotions(values, rules))
    except ConfigError as error:
        yield from error.problems


def _what_cannot_be_split(keys: Any, output_action: Any) -> Iterator[str]:
    if keys is not None:
        yield (
            f"bisect_failed_mini_batches is True and partition_keys is {shown(keys)}; allowed: one of the two, since "
            "run() must get all items of a partition together"
        )
    if isinstance(output_action, str) and output_action.strip().lower() == "summary_only":
        yield (
            "bisect_failed_mini_batches is True and output_action is 'summary_only'; allowed: output_action="
            "'append_row', since what run() does with a part of a mini-batch would be done again"
        )


def find_promotions(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[Promotion]:
    """Yield how the form of a run shows each PipelineParameter."""
    for name, value in values.items():
        if isinstance(value, PipelineParameter) and (schema := rules[name].schema) is not None:
            yield promote(value, name, schema, FORM[name])


class _ExplainedError(ValueError):
    """The problem of a value in words, if its repr would not explain it or would reveal a secret."""


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema["type"]
    return [types] if isinstance(types, str) else types


def default_of(value: Any) -> Any:
    """Return the default of a PipelineParameter; any other value stays."""
    return value.default_value if isinstance(value, PipelineParameter) else value


def _leaves_folder(path: str) -> bool:
    return PurePath(path).is_absolute() or PurePath(os.path.normpath(path)).parts[0] == os.pardir


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _stripped(value: Any) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else _text(value)
    if not isinstance(text, str) or not text.strip():
        raise ValueError
    return text.strip()


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _keys(value: Any) -> tuple[str, ...]:
    # The default of a PipelineParameter is a JSON list in a str.
    keys = json.loads(value) if isinstance(value, str) else value
    if not isinstance(keys, list | tuple) or not keys or len(set(keys)) < len(keys):
        raise ValueError
    return tuple(_stripped(key) for key in keys)


def _file_name(value: Any) -> str:
    if not _FILE_NAME.fullmatch(_text(value)):
        raise ValueError
    return str(value)


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
    """Whether a value is the output of another task, or a side input."""
    return hasattr(value, "iter_references") or isinstance(value, FileDataset | Refused)


_ACTIONS = one_of("append_row", "summary_only")

ENVIRONMENT = Rule(
    "an Environment, or the path of an interpreter or virtual environment",
    lambda value: value if isinstance(value, Environment) else Environment.from_python(_stripped(value)),
)
ENTRY_SCRIPT = Rule(
    "the path of a Python script", lambda value: value if isinstance(value, FunctionScript) else _stripped(value)
)
OUTPUT_ACTION = Rule(_ACTIONS.allowed, lambda value: _ACTIONS.parse(_text(value).strip().lower()))
COMPUTE_TARGET = Rule(
    "a ComputeTarget, or the name of a declared one ('local')",
    lambda value: value if isinstance(value, ComputeTarget) else _stripped(_text(value)),
)
FOLDER = Rule("the path of a folder", _stripped)
TEXT = Rule("text", _text)
FLAG = Rule("True or False", _flag, {"type": "boolean"})
THRESHOLD = at_least(-1, " (-1 ignores all)")
PERCENT = number("a number from 0 to 100 (100 ignores all)", minimum=0, maximum=100)
SECONDS = number("a number of at least 0, in seconds", minimum=0)
SIZE = Rule(SIZE_ALLOWED, normalize_size, {"type": ["string", "integer"], "minimum": 1, "pattern": SIZE_PATTERN})
MEMORY = Rule(
    "an int of at least 1, in bytes, or a str such as '500MB' or '2GB'",
    normalize_memory,
    {"type": ["string", "integer"], "minimum": 1, "pattern": MEMORY_PATTERN},
)
FILE_NAME = Rule(
    f"a file name other than '', '.' and '..', without control characters and any of {_FORBIDDEN}",
    _file_name,
    {"type": "string", "minLength": 1},
)
KEYS = Rule("a list of different str", _keys, {"type": ["array", "string"], "minItems": 1, "items": {"type": "string"}})
VARIABLES = Rule("a dict of str to str (templates and side inputs too)", _variables)
