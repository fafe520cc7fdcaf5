"""The layout of a job file: a configuration, and what it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from airflow_prs.config.parallel_job import is_parallel_job, translate
from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

TOP: Final = "parallel_run_config"
INPUT_KEYS: Final = ("path", "kind", "name")
"""Keys of an input that are no options of its dataset."""

_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "inputs": (list, "a list of paths, or of mappings such as {path: data.csv, kind: csv}"),
    "side_inputs": (dict, "a mapping such as {labels: labels.json}"),
    "output": (str, "the path of a folder"),
    "arguments": (list, "a list such as [--model, mosaic]"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """
    What a job file holds. Only its types are checked: of values, those who use them say what is wrong.

    :param config: settings of the configuration, as the original's YAML files hold them.
    :param inputs: mappings with a path; others of INPUT_KEYS and options of the dataset may be there.
    :param side_inputs: path of each one by its name.
    :param output: folder of the result; None: not in the file.
    :param arguments: for the entry script; ``{"side_input": name}`` stands for the local path of a side input.
    :param ignored: settings that have no meaning here.
    """

    config: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...] = ()
    side_inputs: Mapping[str, str]
    output: str | None
    arguments: tuple[Any, ...]
    ignored: tuple[str, ...]


def read_job_file(path: Path, problems: list[str]) -> JobFile:
    """
    Return what a job file holds. A parallel job of Azure ML v2 is one too.

    :param problems: what is wrong with its layout is added here.
    :raises ConfigError: if it cannot be read at all.
    """
    layout, ignored = read_yaml(path, what=TOP), list[str]()
    if is_parallel_job(layout) and TOP not in layout:
        layout, ignored = translate(layout, path.parent)
    if not isinstance(layout, Mapping) or not isinstance(layout.get(TOP), Mapping):
        raise ConfigError([f"{TOP} is missing in {path}; allowed: one key of this name, with all settings below it"])
    problems += [unknown(key, (TOP, *_TYPES), what="key of the file") for key in layout if key not in {TOP, *_TYPES}]
    values = {name: _value(layout, name, problems) for name in _TYPES}
    return JobFile(
        config=layout[TOP],
        inputs=tuple(_inputs(values["inputs"] or [], problems)),
        side_inputs=_side_inputs(values["side_inputs"] or {}, problems),
        output=values["output"],
        arguments=tuple(values["arguments"] or ()),
        ignored=tuple(ignored),
    )


def _value(layout: Mapping[str, Any], name: str, problems: list[str]) -> Any:
    value = layout.get(name)
    kind, allowed = _TYPES[name]
    if value is None or isinstance(value, kind):
        return value
    problems.append(f"{name} is {shown(value)}; allowed: {allowed}")
    return None


def _inputs(entries: list[Any], problems: list[str]) -> list[Mapping[str, Any]]:
    inputs = []
    for entry in entries:
        given = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(given, Mapping) or not all(isinstance(given.get(key, ""), str) for key in INPUT_KEYS):
            problems.append(f"inputs has {shown(entry)}; allowed: a path, or a mapping such as {{path: data.csv}}")
        elif "path" not in given or not all(isinstance(key, str) for key in given):
            problems.append(f"inputs has {shown(entry)}; allowed: a mapping with path, and options of the dataset")
        else:
            inputs.append(given)
    return inputs


def _side_inputs(pairs: Mapping[Any, Any], problems: list[str]) -> dict[str, str]:
    wrong = {name: path for name, path in pairs.items() if not isinstance(name, str) or not isinstance(path, str)}
    problems += [f"side_inputs.{name} is {shown(path)}; allowed: a path" for name, path in wrong.items()]
    return {name: path for name, path in pairs.items() if name not in wrong}
