"""Environment: which Python runs the entry script."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_prs.errors import ConfigError
from airflow_prs.wording import wrong


@dataclass(frozen=True, slots=True, repr=False)
class Environment:
    """
    The Python that the worker processes run under. It needs pandas and pyarrow, but not Airflow.

    :param python: path of an interpreter or a virtual environment; None: the one that runs Airflow on each node.
    """

    python: str | None = None

    def __post_init__(self) -> None:
        if self.python is not None and (not isinstance(self.python, str) or not self.python.strip()):
            raise ConfigError([wrong("environment", self.python, "the path of an interpreter or virtual environment")])

    @classmethod
    def current(cls) -> Environment:
        """Use the Python that runs Airflow, on each node its own."""
        return cls()

    @classmethod
    def from_python(cls, path: str | os.PathLike[str]) -> Environment:
        """
        Use the Python at a path, the same path on each node.

        :param path: an interpreter, a virtual environment's folder, or the name of a command on the PATH.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError([wrong("environment", path, "the path of an interpreter or virtual environment")])
        return cls(os.fsdecode(path))

    @property
    def interpreter(self) -> str:
        """
        The program to start on this machine.

        Links are kept: a virtual environment's python is one, and what it points to knows nothing of the environment.
        """
        if self.python is None:
            return sys.executable
        path = Path(self.python).expanduser()
        if path.is_dir():
            return str(path / "bin" / "python")
        return (shutil.which(path.name) if _is_command(self.python) and not path.exists() else None) or str(path)

    def relative_to(self, folder: str | os.PathLike[str]) -> Environment:
        """Read a relative path from a folder; a command's name stays, unless the folder holds something so called."""
        if self.python is None or self.python.startswith(("/", "~")):
            return self
        inside = Path(folder, self.python)
        return self if _is_command(self.python) and not inside.exists() else replace(self, python=str(inside))

    def __repr__(self) -> str:
        return "Environment.current()" if self.python is None else f"Environment.from_python({self.python!r})"


def _is_command(path: str) -> bool:
    return os.sep not in path and not path.startswith("~")
