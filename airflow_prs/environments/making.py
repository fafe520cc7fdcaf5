"""
Make the virtual environments of this machine: each one once, kept for later runs.

    <root>/<fingerprint>/                   the virtual environment
    <root>/<fingerprint>/environment.json   written last, so it marks a complete environment; lists the packages
    <root>/<fingerprint>.lock               locked by the process that makes the environment, and by uv or pip

A folder may be deleted while no run uses it; it is made again when a run needs it. An incomplete environment that a
dead process has left is removed and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_prs.config.environment import Environment
from airflow_prs.config.requirements import NEEDED, complete
from airflow_prs.environments.installing import (
    InstallError,
    Method,
    Python,
    ask_packages,
    ask_python,
    choose_tool,
    install,
)
from airflow_prs.errors import EnvironmentBrokenError
from airflow_prs.store.files import write_atomically
from airflow_prs.wording import shown
from airflow_prs.worker.environment import OLDEST, OLDEST_PYTHON

_MARKER = "environment.json"
_SCHEMA = 1
_FINGERPRINT_LENGTH = 20
_MISSING = re.compile(r"^ModuleNotFoundError: No module named '([^']+)'")


def ensure_environment(
    environment: Environment,
    cache_root: str | os.PathLike[str],
    report: Callable[[str], None],
    *,
    environ: Mapping[str, str],
    method: Method = "auto",
) -> str:
    """
    Return the interpreter of an environment, which is made if this machine does not have it yet.

    Call it in the main thread, so that signals interrupt it. It may take minutes. Other processes that need the same
    environment wait for it.

    :param environment: the environment, with requirements in place of files.
    :param cache_root: folder of all environments; machines may share it if they are alike.
    :param report: called with a line about each step that takes time.
    :param environ: variables for pip and uv, and for ``${NAME}`` in requirements.
    :param method: whether to use uv or pip.
    :raises EnvironmentBrokenError: if the environment cannot be made; the message has the output of pip or uv.
    """
    if environment.requirements is None:
        return environment.interpreter
    try:
        python = ask_python(environment.interpreter, environ)
        target = _Target(Path(cache_root).expanduser().absolute(), python, complete(environment.requirements))
        _require_new_python(python)
        if not target.is_done:
            _make(target, report, environ, method)
    except (InstallError, OSError) as error:
        raise EnvironmentBrokenError(_explain(environment, cache_root, error)) from error
    return target.interpreter


@dataclass(frozen=True, slots=True)
class _Target:
    """
    The environment to make.

    :param root: folder of all environments.
    :param python: the interpreter from which it is made.
    :param requirements: all requirements, also those of worker processes.
    """

    root: Path
    python: Python
    requirements: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        content = [_SCHEMA, list(self.requirements), self.python.version, self.python.build, self.python.home]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_FINGERPRINT_LENGTH]

    @property
    def folder(self) -> Path:
        return self.root / self.fingerprint

    @property
    def interpreter(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def marker(self) -> Path:
        return self.folder / _MARKER

    @property
    def is_done(self) -> bool:
        """Return whether the environment is complete, and the Python that it links to still exists."""
        return self.marker.is_file() and os.access(self.interpreter, os.X_OK)


def _make(target: _Target, report: Callable[[str], None], environ: Mapping[str, str], method: Method) -> None:
    target.root.mkdir(parents=True, exist_ok=True)
    with _locked(target.root / f"{target.fingerprint}.lock", report) as lock:
        if target.is_done:
            return
        uv = choose_tool(method, environ)
        tool = "uv" if uv else "pip"
        report(f"Making the environment {target.folder} with {tool}: {', '.join(target.requirements)}")
        began = time.monotonic()
        _remove(target)
        try:
            install(target.folder, target.python, target.requirements, uv=uv, environ=environ, lock=lock)
            packages = ask_packages(target.interpreter, environ)
            _require_new_packages(packages)
        except BaseException:
            _remove(target)
            raise
        _write_marker(target, packages)
        found = ", ".join(f"{name} {packages.get(name)}" for name in NEEDED)
        seconds = time.monotonic() - began
        report(f"The environment is complete: Python {target.python.version}, {found} ({seconds:.0f} s)")


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[int]:
    """
    Hold a lock until the last process that has inherited the file ends.

    A lock of the package filelock ends with its own process, but the pip that a killed process has started may still be
    running.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"Waiting for another process that is making the environment {path.with_suffix('')}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _remove(target: _Target) -> None:
    target.marker.unlink(missing_ok=True)  # first, so that the rest of a folder never looks complete
    shutil.rmtree(target.folder, ignore_errors=True)


def _write_marker(target: _Target, packages: Mapping[str, str]) -> None:
    content = {
        "schema": _SCHEMA,
        "python": target.python.version,
        "requirements": list(target.requirements),
        "packages": dict(sorted(packages.items())),
    }
    write_atomically(target.marker, json.dumps(content, indent=2).encode())


def _require_new_python(python: Python) -> None:
    if python.numbers < OLDEST_PYTHON:
        raise InstallError(f"{python.executable} is Python {python.version}; worker processes need 3.9 or newer")


def _require_new_packages(packages: Mapping[str, str]) -> None:
    for name, oldest in OLDEST.items():
        if _numbers(packages[name]) < oldest:
            needed = ".".join(map(str, oldest))
            raise InstallError(f"it would have {name} {packages[name]}; worker processes need {needed} or newer")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _explain(environment: Environment, cache_root: str | os.PathLike[str], error: Exception) -> str:
    if isinstance(error, OSError):
        return (
            f"environments cannot be kept in {cache_root} on {socket.gethostname()}: {error}; set [parallel_run] "
            "environments_root to a folder that this machine can write to"
        )
    return (
        f"{shown(environment)} cannot be made on {socket.gethostname()}. Correct its requirements or its Python, or "
        "use the Python of an environment that has the packages: Environment.from_python('/path/to/bin/python'). "
        f"{error}"
    )


def missing_module_hint(error: str, environment: Environment, interpreter: str) -> str:
    """
    Return a hint if an error says that a module is missing: where it was not found, and how to add it; otherwise ''.

    :param error: the error of a worker process, in one line.
    :param environment: the environment of the worker process.
    :param interpreter: the interpreter that ran.
    """
    missing = _MISSING.search(error)
    if missing is None:
        return ""
    command = f"{interpreter} -m pip install ..."
    how = "add it to requirements" if environment.is_installed else f"install it there: {command}"
    return (
        f"{missing[1]} is missing in {shown(environment)} ({interpreter}). If it is a package, {how}; if it is a module"
        " of yours, it belongs in source_directory."
    )
