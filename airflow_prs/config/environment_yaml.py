"""
The original's description of an environment, as YAML files hold it.

Taken from it are the interpreter, or the packages that pip installs, and the environment variables; the rest describes
images that Azure ML would build, and is named in a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_prs.config.environment import Environment
from airflow_prs.config.environment_files import CondaPackages, conda_problem, read_conda, usable_python
from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

log = logging.getLogger(__name__)

KEYS = (
    "name",
    "version",
    "asset_id",
    "python",
    "environment_variables",
    "docker",
    "spark",
    "databricks",
    "r",
    "inferencing_stack_version",
)
PYTHON_KEYS = (
    "user_managed_dependencies",
    "interpreter_path",
    "conda_dependencies",
    "conda_dependencies_file",
    "base_conda_environment",
)
WAY_OUT = (
    "give the Python of an environment that has what the script needs: "
    "environment: {python: {userManagedDependencies: true, interpreterPath: /path/to/bin/python}}, or packages: "
    "environment: {python: {condaDependencies: {dependencies: [{pip: [scikit-learn==1.5.2]}]}}}"
)
_WAY_OUT_V2 = (
    "write packages, task.environment: {conda_file: environment.yml}, or a Python of this machine, "
    "task.environment: {python: {userManagedDependencies: true, interpreterPath: /path/to/bin/python}}"
)
_OF_IMAGES = ("name", "version", "description", "tags", "properties", "image", "build", "os_type", "inference_config")
DEFAULT_INTERPRETER = "python"
"""What the original writes where no interpreter was chosen."""


def write_environment(environment: Environment) -> dict[str, Any]:
    """Describe an environment in the original's words."""
    python: dict[str, Any] = {"userManagedDependencies": not environment.is_installed}
    if environment.python is not None:
        python["interpreterPath"] = environment.python
    if environment.conda_file is not None:
        python["condaDependenciesFile"] = environment.conda_file
    if environment.requirements is not None:
        python["condaDependencies"] = {"dependencies": ["pip", {"pip": list(environment.requirements)}]}
    return {"python": python}


def read_environment_folder(folder: Path) -> tuple[Environment, dict[str, str]]:
    """
    Read a folder that the original's ``Environment.save_to_directory`` wrote.

    :raises ConfigError: as read_environment does.
    """
    layout = read_yaml(folder / "azureml_environment.json", what="environment_dir_path")
    packages = folder / "conda_dependencies.yml"
    if isinstance(layout, dict) and isinstance(layout.get("python"), dict) and packages.is_file():
        layout["python"].setdefault("condaDependencies", read_yaml(packages, what="environment_dir_path"))
    return read_environment(layout, folder=None)


def read_environment(layout: Any, *, folder: Path | None) -> tuple[Environment, dict[str, str]]:
    """
    Find the Python of an environment, and its environment variables.

    :param layout: the mapping, with keys in camelCase or snake_case.
    :param folder: where a relative interpreter path begins; None: it stays relative.
    :raises ConfigError: if it has unknown keys, or names no Python that could be started.
    """
    if not isinstance(layout, Mapping):
        raise ConfigError([f"environment is {shown(layout)}; allowed: a mapping; {WAY_OUT}"])
    problems: list[str] = []
    settings = _read_keys(layout, KEYS, "environment", problems)
    python = settings.get("python")
    if not isinstance(python, Mapping | None):
        problems.append(f"environment.python is {shown(python)}; allowed: a mapping of {', '.join(PYTHON_KEYS)}")
        python = None
    python = _read_keys(python or {}, PYTHON_KEYS, "environment.python", problems)
    packages = _read_packages(python, problems)
    problems += _find_missing(settings, python, packages)
    if problems:
        raise ConfigError(problems)
    _say_what_is_ignored(settings, python)
    environment = _choose(python, packages)
    return environment.relative_to(folder) if folder else environment, dict(settings.get("environment_variables") or {})


def read_environment_v2(value: Any, base: Path) -> tuple[Environment, dict[str, str]]:
    """
    Return the environment of a task of Azure ML v2, and its variables.

    :param value: what the task holds: the content of an environment, or the path of its file.
    :param base: folder that relative paths start from.
    :raises ConfigError: if it is registered in Azure ML, or names neither packages nor a Python.
    """
    if isinstance(value, str) and not value.startswith("azureml:"):
        file = Path(base, value.removeprefix("file:"))
        value, base = read_yaml(file, what="task.environment"), file.parent
    if not isinstance(value, Mapping):
        what = "is missing" if value is None else f"is {shown(value)}, which only Azure ML knows"
        raise ConfigError([f"task.environment {what}; {_WAY_OUT_V2}"])
    if "python" in value:
        return read_environment(value, folder=base)
    known = ("$schema", "conda_file", *_OF_IMAGES)
    if problems := [unknown(f"task.environment.{key}", known, what="key of it") for key in value if key not in known]:
        raise ConfigError(problems)
    conda = value.get("conda_file")
    if conda is None:
        raise ConfigError([f"task.environment has no conda_file, and images are not used here; {_WAY_OUT_V2}"])
    if "image" in value or "build" in value:
        log.warning("Ignored in task.environment, as airflow_prs builds no images: image and what belongs to it")
    if isinstance(conda, str):
        return Environment.from_conda_file(Path(base, conda)), {}
    packages = read_conda(conda, place="task.environment.conda_file")
    if packages.conda:
        raise ConfigError([f"task.environment.conda_file: {conda_problem(packages.conda)}"])
    return Environment.from_pip(packages.pip or (), usable_python(packages)), {}


def _choose(python: Mapping[str, Any], packages: CondaPackages) -> Environment:
    given = python.get("interpreter_path", DEFAULT_INTERPRETER)
    path = None if given == DEFAULT_INTERPRETER else given
    if _is_users_own(python):
        return Environment.current() if path is None else Environment.from_python(path)
    if "conda_dependencies_file" in python:
        return Environment.from_conda_file(python["conda_dependencies_file"], path)
    if packages.pip is None:
        return Environment.current() if path is None else Environment.from_python(path)
    return Environment.from_pip(packages.pip, path or usable_python(packages))


def _is_users_own(python: Mapping[str, Any]) -> bool:
    """Whether nothing is installed: userManagedDependencies is true, or it is missing and an interpreter was chosen."""
    chosen = python.get("interpreter_path", DEFAULT_INTERPRETER) != DEFAULT_INTERPRETER
    return bool(python.get("user_managed_dependencies", chosen))


def _read_keys(layout: Mapping[Any, Any], known: tuple[str, ...], place: str, problems: list[str]) -> dict[str, Any]:
    """Return the settings that are not empty, by their names in snake_case."""
    settings: dict[str, Any] = {}
    for key, value in layout.items():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key)).lower()
        if name not in known:
            problems.append(unknown(key, known, what=f"key of {place}"))
        elif name in settings:
            problems.append(f"{place}.{name} is given twice, as {key} too; allowed: one of them")
        elif not _is_empty(value):
            settings[name] = value
    return settings


def _read_packages(python: Mapping[str, Any], problems: list[str]) -> CondaPackages:
    try:
        return read_conda(python.get("conda_dependencies", {}), place="environment.python.condaDependencies")
    except ConfigError as error:
        problems += error.problems
    return CondaPackages()


def _find_missing(settings: Mapping[str, Any], python: Mapping[str, Any], packages: CondaPackages) -> Iterator[str]:
    managed = python.get("user_managed_dependencies", False)
    path = python.get("interpreter_path", DEFAULT_INTERPRETER)
    file = python.get("conda_dependencies_file", "")
    if not isinstance(managed, bool):
        yield f"environment.python.userManagedDependencies is {shown(managed)}; allowed: true or false"
    if not isinstance(path, str):
        yield f"environment.python.interpreterPath is {shown(path)}; allowed: the path of an interpreter"
    if not isinstance(file, str):
        yield f"environment.python.condaDependenciesFile is {shown(file)}; allowed: the path of a file"
    if not isinstance(settings.get("environment_variables", {}), Mapping):
        yield "environment.environmentVariables is not a mapping; allowed: names and their values"
    if not python:
        name = settings.get("name")
        called = f" {shown(name)}" if name else ""
        yield f"environment{called} refers to one that is registered in Azure ML, which has no meaning here; {WAY_OUT}"
    elif not _is_users_own(python) and packages.conda:
        yield conda_problem(packages.conda)


def _say_what_is_ignored(settings: Mapping[str, Any], python: Mapping[str, Any]) -> None:
    used = {"python", "environment_variables", "user_managed_dependencies", "interpreter_path"}
    if not _is_users_own(python):
        # only one of the two, if both are given
        used.add("conda_dependencies_file" if "conda_dependencies_file" in python else "conda_dependencies")
    ignored = [name for name in settings if name not in used]
    ignored += [f"python.{name}" for name in python if name not in used]
    if ignored:
        log.warning("Ignored in the environment, as airflow_prs builds no images: %s", ", ".join(ignored))


def _is_empty(value: Any) -> bool:
    """The original writes every setting, most of them as null, and lists and mappings without content."""
    if isinstance(value, Mapping):
        return all(map(_is_empty, value.values()))
    return value is None or value in ("", [])
