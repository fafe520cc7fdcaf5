"""Environment: which Python runs the entry script."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_prs.config.declaring import declares
from airflow_prs.config.requirements import ALLOWED, find_problem, nested_file, strip_comment
from airflow_prs.errors import ConfigError
from airflow_prs.wording import wrong

OLDEST_PYTHON = (3, 9)
"""Worker processes run under no older one; worker/environment.py has the last word."""

_VERSION = re.compile(r"\d+\.\d+")
_PATH = "the path of an interpreter or virtual environment"
_PYTHON = f"a version such as '3.12', or {_PATH}"


@dataclass(frozen=True, slots=True, repr=False)
class Environment:
    """
    The Python that the worker processes run under. It needs pandas and pyarrow, but not Airflow.

    Nothing is read, looked up or installed when it is made: plan reads files, and each node makes environments.

    :param python: path of an interpreter or a virtual environment; None: the one that runs Airflow on each node. If
        packages are installed, the new environment is created from this Python, which may also be a version.
    :param requirements: packages for a new environment, as lines of a requirements file; None: none are installed.
    :param conda_file: file of a conda environment that lists the packages instead.
    """

    python: str | None = None
    requirements: tuple[str, ...] | None = None
    conda_file: str | None = None

    def __post_init__(self) -> None:
        if problems := list(self._find_problems()):
            raise ConfigError(problems)

    @classmethod
    def current(cls) -> Environment:
        """Use the Python that runs Airflow, on each node its own."""
        return cls()

    @classmethod
    @declares
    def from_python(cls, path: str | os.PathLike[str]) -> Environment:
        """
        Use the Python at a path, the same path on each node.

        :param path: an interpreter, a virtual environment's folder, or the name of a command on the PATH.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError([wrong("environment", path, _PATH)])
        return cls(os.fsdecode(path))

    @classmethod
    @declares
    def from_pip(cls, requirements: Sequence[str], python: str | os.PathLike[str] | None = None) -> Environment:
        """
        Install packages in an environment of their own, once on each machine; equal ones are made once and kept.

        pandas and pyarrow are installed too, if they are not named.

        :param requirements: as pip takes them, such as ``["pandas==1.5.3", "scikit-learn"]``.
        :param python: what it is made of: a version such as "3.12", which is looked for as ``python3.12`` on the PATH,
            or the path of an interpreter; None: the Python that runs Airflow.
        """
        if isinstance(requirements, str) or not isinstance(requirements, Sequence):
            raise ConfigError([wrong("environment.requirements", requirements, "a list of str")])
        lines = (strip_comment(line) if isinstance(line, str) else line for line in requirements)
        return cls(_python_text(python), tuple(lines))

    @classmethod
    @declares
    def from_requirements_file(
        cls, path: str | os.PathLike[str], python: str | os.PathLike[str] | None = None
    ) -> Environment:
        """
        Install what a requirements file lists, as from_pip does. Plan reads the file, at the start of each run.

        :param path: the file, relative to the DAG file.
        :param python: as for from_pip.
        """
        return cls.from_pip([f"-r {_file_text(path)}"], python)

    @classmethod
    @declares
    def from_conda_file(cls, path: str | os.PathLike[str], python: str | os.PathLike[str] | None = None) -> Environment:
        """
        Install the pip packages of a conda environment's file, as from_pip does. Plan reads the file.

        Packages that only conda could install are an error: make such an environment with conda, and give its Python.

        :param path: the file, relative to the DAG file.
        :param python: as for from_pip; None: the version of Python that the file names, if it does.
        """
        return cls(_python_text(python), conda_file=_file_text(path))

    @property
    def is_installed(self) -> bool:
        """Whether packages are installed, in an environment of their own."""
        return self.requirements is not None or self.conda_file is not None

    @property
    def files(self) -> tuple[str, ...]:
        """Files that list packages; plan has to read them."""
        nested = (nested_file(line) for line in self.requirements or ())
        return tuple(path for path in (self.conda_file, *nested) if path is not None)

    @property
    def interpreter(self) -> str:
        """
        The interpreter to start on this machine. If packages are installed, the environment is created from it.

        Links are not resolved: the python of a virtual environment is a link, and its target ignores the environment.
        """
        if self.python is None:
            return sys.executable
        name = f"python{self.python}" if self._names_version else self.python
        path = Path(name).expanduser()
        if path.is_dir():
            return str(path / "bin" / "python")
        return (shutil.which(path.name) if _is_command(name) and not path.exists() else None) or str(path)

    def relative_to(self, folder: str | os.PathLike[str]) -> Environment:
        """Resolve relative paths against a folder; a command's name stays, unless the folder has such an entry."""
        python = self.python
        if python is not None and not python.startswith(("/", "~")) and not self._names_version:
            inside = Path(folder, python)
            python = python if _is_command(python) and not inside.exists() else str(inside)
        return replace(
            self,
            python=python,
            requirements=self.requirements and tuple(_line_from(folder, line) for line in self.requirements),
            conda_file=self.conda_file and str(Path(folder, self.conda_file)),
        )

    def to_json(self) -> dict[str, Any]:
        """
        Return the environment as plain values.

        :raises ConfigError: if files list the packages: on other machines they could have other contents.
        """
        if self.files:
            raise ConfigError([f"environment: {', '.join(self.files)} must be read first, by read_packages"])
        packages = {} if self.requirements is None else {"requirements": list(self.requirements)}
        return {"interpreter": self.python, **packages}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Environment:
        """Read what ``to_json`` wrote."""
        requirements = plain.get("requirements")
        return cls(plain["interpreter"], None if requirements is None else tuple(requirements))

    def __repr__(self) -> str:
        python = "" if self.python is None else f", python={self.python!r}"
        if self.conda_file is not None:
            return f"Environment.from_conda_file({self.conda_file!r}{python})"
        if self.requirements is not None:
            return f"Environment.from_pip({list(self.requirements)!r}{python})"
        return "Environment.current()" if self.python is None else f"Environment.from_python({self.python!r})"

    @property
    def _names_version(self) -> bool:
        """Whether ``python`` is a version. Only a new environment is created from a version; otherwise it is a path."""
        return self.is_installed and self.python is not None and _VERSION.fullmatch(self.python) is not None

    def _find_problems(self) -> Iterator[str]:
        if self.python is not None and (not isinstance(self.python, str) or not self.python.strip()):
            yield wrong("environment", self.python, _PYTHON if self.is_installed else _PATH)
        elif self._names_version and is_too_old(str(self.python)):
            yield f"environment.python is {self.python!r}; worker processes need 3.9 or newer"
        if self.requirements is not None and self.conda_file is not None:
            yield "environment has both requirements and conda_file; allowed: one of the two"
        for line in self.requirements or ():
            if not isinstance(line, str) or not line or "\n" in line:
                yield wrong("a requirement of environment", line, ALLOWED)
            elif problem := find_problem(line):
                yield f"environment: {problem}"


def is_too_old(version: str) -> bool:
    """Whether worker processes cannot run under a version of Python, such as ``3.8``."""
    return tuple(map(int, version.split("."))) < OLDEST_PYTHON


def _python_text(python: str | os.PathLike[str] | None) -> str | None:
    if python is not None and not isinstance(python, str | os.PathLike):
        raise ConfigError([wrong("environment.python", python, _PYTHON)])
    return None if python is None else os.fsdecode(python)


def _file_text(path: str | os.PathLike[str]) -> str:
    if not isinstance(path, str | os.PathLike) or not os.fsdecode(path).strip():
        raise ConfigError([wrong("environment", path, "the path of a file that lists packages")])
    return os.fsdecode(path)


def _line_from(folder: str | os.PathLike[str], line: str) -> str:
    path = nested_file(line)
    return line if path is None else f"-r {Path(folder, path)}"


def _is_command(path: str) -> bool:
    return os.sep not in path and not path.startswith("~")
