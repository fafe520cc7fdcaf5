"""Files that list packages: requirements files, and the files of conda environments."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_prs.config.environment import Environment, is_too_old
from airflow_prs.config.requirements import find_problem, nested_file, split_lines
from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown

log = logging.getLogger(__name__)

_PYTHON = re.compile(r"python\s*={1,2}\s*(\d+\.\d+)\b.*")
_HARMLESS = {"python", "pip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaPackages:
    """
    What the file of a conda environment asks for.

    :param pip: what pip is to install; None: the file has no list for pip.
    :param conda: what only conda could install.
    :param python: version of Python, such as ``3.12``; None: none, or not exactly one.
    """

    pip: tuple[str, ...] | None = None
    conda: tuple[str, ...] = ()
    python: str | None = None


def read_packages(environment: Environment) -> Environment:
    """
    Replace files by the packages that they list, so that the environment is the same on every machine.

    :param environment: with paths that can be read from here.
    :raises ConfigError: if a file cannot be read, or lists what pip cannot install.
    """
    if environment.conda_file is not None:
        environment = _read_conda_file(environment)
    if environment.requirements is None:
        return environment
    return replace(environment, requirements=tuple(_inline(environment.requirements, ())))


def read_conda(layout: Any, *, place: str) -> CondaPackages:
    """
    Return the packages in the content of a conda environment's file.

    :param place: the file or key of the content, for errors.
    :raises ConfigError: if it is not such a content.
    """
    dependencies = layout.get("dependencies") if isinstance(layout, Mapping) else None
    if not isinstance(layout, Mapping) or not isinstance(dependencies or [], list):
        raise ConfigError([f"{place} is {shown(layout)}; allowed: a mapping with a list of dependencies"])
    pip: list[str] | None = None
    conda: list[str] = []
    python = None
    for package in dependencies or ():
        if isinstance(package, Mapping):
            pip = [*(pip or ()), *map(str, package.get("pip") or ())]
        elif re.split(r"[\s=<>!~\[]", _name(package), maxsplit=1)[0] not in _HARMLESS:
            conda.append(str(package))
        elif exact := _PYTHON.fullmatch(_name(package)):
            python = exact[1]
    return CondaPackages(pip=None if pip is None else tuple(pip), conda=tuple(conda), python=python)


def usable_python(packages: CondaPackages) -> str | None:
    """Return the version of Python that a file asks for; None: there is none, or it is too old for worker processes."""
    if packages.python is None or not is_too_old(packages.python):
        return packages.python
    log.warning(
        "The environment asks for Python %s, but worker processes need 3.9 or newer. Airflow's Python is used instead, "
        "or the one that the environment names with python or interpreterPath.",
        packages.python,
    )
    return None


def conda_problem(conda: Sequence[str]) -> str:
    """Return the message about packages that only conda could install."""
    return (
        f"environment asks for conda packages ({', '.join(conda)}), which pip cannot install; list them under pip, or "
        "make the environment with conda and give its Python: Environment.from_python('/path/to/bin/python'), in YAML "
        "python: {userManagedDependencies: true, interpreterPath: /path/to/bin/python}"
    )


def _name(package: Any) -> str:
    """Return a package without its channel."""
    return str(package).rpartition("::")[2].strip()


def _read_conda_file(environment: Environment) -> Environment:
    path = Path(str(environment.conda_file))
    packages = read_conda(read_yaml(path, what="environment"), place=f"environment: {path}")
    if packages.conda:
        raise ConfigError([f"{conda_problem(packages.conda)} (in {path})"])
    made = Environment.from_pip(packages.pip or (), environment.python or usable_python(packages))
    # pip, as conda calls it, reads paths in the file from the folder of the file
    return replace(made, requirements=made.relative_to(path.parent).requirements)


def _inline(lines: Sequence[str], parents: tuple[Path, ...]) -> Iterator[str]:
    for line in lines:
        nested = nested_file(line)
        if nested is None:
            yield line
            continue
        path = Path(nested) if not parents else parents[-1].parent / nested
        if path in parents:
            raise ConfigError([f"environment: {path} refers to itself by way of {parents[-1]}; remove one of the two"])
        yield from _inline(_read_requirements(path), (*parents, path))


def _read_requirements(path: Path) -> list[str]:
    try:
        lines = split_lines(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = f"environment: cannot read {path}: {error.strerror}; give the path of a requirements file"
        raise ConfigError([problem]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"environment: {path} is not valid UTF-8; save it as UTF-8"]) from error
    if problems := [problem for problem in map(find_problem, lines) if problem]:
        raise ConfigError([f"environment: {problem} (in {path})" for problem in problems])
    return lines
