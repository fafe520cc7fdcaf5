"""The original's YAML layout of a ParallelRunConfig."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_prs.config.compute import ComputeTarget, read_compute_target
from airflow_prs.config.environment import Environment
from airflow_prs.config.environment_yaml import WAY_OUT, read_environment, read_environment_folder, write_environment
from airflow_prs.config.yaml_file import JOB_KEYS, read_yaml, write_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

log = logging.getLogger(__name__)

TOP = "parallel_run_config"
TARGET = "compute_target_name"
ENVIRONMENT_KEYS = ("environment", "environment_dir_path", "environment_name")
"""Keys that may hold the environment; the first one that is there wins."""


def write_config(path: str | os.PathLike[str], values: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """
    Write a configuration; parameters that are None, and our own parameters with their defaults, are left out.

    :param values: the parameters of the constructor, all resolved.
    :param ours: the parameters that the original does not know, with their defaults.
    :raises ConfigError: if a value cannot be written.
    """
    keys = values["partition_keys"]
    plain = {**values, "partition_keys": keys and list(keys), "environment": write_environment(values["environment"])}
    plain["compute_target"] = _write_target(values["compute_target"])
    for name, value in (values["environment_variables"] or {}).items():
        if not isinstance(value, str):
            raise ConfigError([f"environment_variables[{name!r}] cannot be written to a YAML file; allowed: a str"])
    kept = {name: value for name, value in plain.items() if value is not None and (name, value) not in ours.items()}
    write_yaml(path, {TOP: {TARGET if name == "compute_target" else name: value for name, value in kept.items()}})


def read_config(
    workspace: str | os.PathLike[str] | None, path: str | os.PathLike[str], names: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return the values for the constructor, and the problems that it cannot find.

    :param names: the parameters of the constructor.
    :raises ConfigError: if the file cannot be read at all.
    """
    file = Path(workspace or "", path)
    layout = read_yaml(file, what=TOP)
    if isinstance(layout, Mapping) and layout.get("type") == "parallel" and TOP not in layout:
        problem = (
            f"{path} is a parallel job of Azure ML v2, which airflow-prs run and airflow-prs check read; allowed in a "
            f"DAG: its settings below {TOP}"
        )
        raise ConfigError([f"{problem}, under the names in the table 'The newer names' of docs/moving.md"])
    if not isinstance(layout, Mapping) or not isinstance(layout.get(TOP), Mapping):
        raise ConfigError([f"{TOP} is missing in {path}; allowed: one key of this name, with all settings below it"])
    beside = (TOP, *JOB_KEYS)
    problems = [unknown(key, beside, what="key of the file") for key in layout if key not in beside]
    given = {key: value for key, value in layout[TOP].items() if value is not None}
    known = {TARGET, *ENVIRONMENT_KEYS, *names} - {"compute_target"}
    problems += [unknown(key, known, what=f"key of {TOP}") for key in given if key not in known]

    values = {name: given[name] for name in names if name in given}
    values["compute_target"] = _read_target(given.get(TARGET), problems)
    values["environment"], variables = _read_environment(given, workspace, file.parent, problems)
    if variables:
        own = values.get("environment_variables", {})
        values["environment_variables"] = {**variables, **own} if isinstance(own, Mapping) else own
    if workspace is not None:
        _resolve_paths(values, Path(workspace))
    return values, problems


def _write_target(target: ComputeTarget | str) -> Any:
    if isinstance(target, str):
        return target
    options = target.to_arguments()
    if "executor_config" in options:
        problem = "compute_target has an executor_config, which cannot be written to a YAML file"
        raise ConfigError([f"{problem}; declare the target by name"])
    return options


def _read_target(value: Any, problems: list[str]) -> ComputeTarget | str:
    """Return the target; if it has a problem, a valid one, so that the constructor does not report it again."""
    if value is None:
        problems.append(f"{TARGET} is missing; allowed: the name of a compute target, such as 'local'")
    elif isinstance(value, Mapping):
        try:
            return read_compute_target(value)
        except ConfigError as error:
            problems += [f"{TARGET}: {problem}" for problem in error.problems]
    elif isinstance(value, str) and value.strip():
        return value
    else:
        problems.append(f"{TARGET} is {shown(value)}; allowed: the name of a compute target, such as 'local'")
    return "local"


def _read_environment(
    given: Mapping[str, Any], workspace: str | os.PathLike[str] | None, beside: Path, problems: list[str]
) -> tuple[Environment, dict[str, str]]:
    """Return the environment, and its variables; if it has a problem, a valid one, as _read_target does."""
    present = [key for key in ENVIRONMENT_KEYS if key in given]
    if len(present) > 1:
        log.warning("Ignored, as %s is given: %s", present[0], ", ".join(present[1:]))
    folder = None if workspace is None else Path(workspace)
    if not present:
        problems.append(f"environment is missing; {WAY_OUT}")
        return Environment.current(), {}
    try:
        return _read_environment_at(present[0], given[present[0]], folder, beside)
    except ConfigError as error:
        problems += error.problems
    return Environment.current(), {}


def _read_environment_at(key: str, value: Any, folder: Path | None, beside: Path) -> tuple[Environment, dict[str, str]]:
    if key == "environment_name":
        return read_environment({"name": value}, folder=folder)
    if isinstance(value, str):
        place = Path(folder or beside, value)
        if key == "environment_dir_path":
            return read_environment_folder(place)
        return read_environment(read_yaml(place, what="environment"), folder=folder)
    if key == "environment_dir_path":
        raise ConfigError([f"{key} is {shown(value)}; allowed: the path of a folder"])
    return read_environment(value, folder=folder)


def _resolve_paths(values: dict[str, Any], workspace: Path) -> None:
    """Resolve source_directory, or without one the entry script, which is relative to it otherwise."""
    name = "source_directory" if "source_directory" in values else "entry_script"
    if isinstance(values.get(name), str) and values[name].strip():
        values[name] = str(workspace / values[name].strip())
