"""
The environments of this machine: each is made once, completely or not at all, and kept for the next run.

    <root>/<fingerprint>/                   the virtual environment
    <root>/<fingerprint>/environment.json   written last, so that it marks a complete one; lists what is in it
    <root>/<fingerprint>.lock               held by the process that makes it, and by the programs that do the work

A folder may be deleted while no run uses it; it is made again when it is needed. An incomplete one, left by a dead
process, is made again from the start.
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
from airflow_prs.store.files import write_whole
from airflow_prs.wording import shown
from airflow_prs.worker.environment import OLDEST, OLDEST_PYTHON

_MARKER = "environment.json"
_SCHEMA = 1
_FINGERPRINT_LENGTH = 20
_MISSING = re.compile(r"^ModuleNotFoundError: No module named '([^']+)'")


def ensure_environment(
    environment: Environment,
    cache_root: str | os.PathLike[str],
    say: Callable[[str], None],
    *,
    environ: Mapping[str, str],
    method: Method = "auto",
) -> str:
    """
    Make an environment unless this machine has it, and return the path of its interpreter.

    To be called in the main thread, so that signals interrupt it. It may take minutes; other processes that need the
    same environment wait.

    :param environment: with requirements in place of files.
    :param cache_root: folder of all environments, on this machine or shared by equal ones.
    :param say: called with what takes time.
    :param environ: variables for pip and uv; what ``${NAME}`` in a requirement stands for.
    :param method: which of the two installs.
    :raises EnvironmentBrokenError: if it cannot be made; says what pip or uv said.
    """
    if environment.requirements is None:
        return environment.interpreter
    try:
        python = ask_python(environment.interpreter, environ)
        order = _Order(Path(cache_root).expanduser().absolute(), python, complete(environment.requirements))
        _refuse_old(python)
        if not order.is_done:
            _make(order, say, environ, method)
    except (InstallError, OSError) as error:
        raise EnvironmentBrokenError(_explain(environment, cache_root, error)) from error
    return order.interpreter


@dataclass(frozen=True, slots=True)
class _Order:
    """
    An environment that is wanted.

    :param python: the Python that it is made with.
    :param requirements: complete.
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
        """Whether it is complete, and the Python that it links to is still there."""
        return self.marker.is_file() and os.access(self.interpreter, os.X_OK)


def _make(order: _Order, say: Callable[[str], None], environ: Mapping[str, str], method: Method) -> None:
    order.root.mkdir(parents=True, exist_ok=True)
    with _locked(order.root / f"{order.fingerprint}.lock", say) as lock:
        if order.is_done:
            return
        uv = choose_tool(method, environ)
        tool = "uv" if uv else "pip"
        say(f"Making the environment {order.folder} with {tool}: {', '.join(order.requirements)}")
        began = time.monotonic()
        _remove(order)
        try:
            install(order.folder, order.python, order.requirements, uv=uv, environ=environ, lock=lock)
            packages = ask_packages(order.interpreter, environ)
            _check(packages)
        except BaseException:
            _remove(order)
            raise
        _mark(order, packages)
        found = ", ".join(f"{name} {packages.get(name)}" for name in NEEDED)
        seconds = time.monotonic() - began
        say(f"The environment is made: Python {order.python.version}, {found} ({seconds:.0f} s)")


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """
    Hold a lock until the last process that has the file open closes it.

    So filelock does not do: after a process was killed, the pip that it started may still be running.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another process that makes the environment {path.with_suffix('')}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _remove(order: _Order) -> None:
    order.marker.unlink(missing_ok=True)  # first: what is left of a folder must not look complete
    shutil.rmtree(order.folder, ignore_errors=True)


def _mark(order: _Order, packages: Mapping[str, str]) -> None:
    content = {
        "schema": _SCHEMA,
        "python": order.python.version,
        "requirements": list(order.requirements),
        "packages": dict(sorted(packages.items())),
    }
    write_whole(order.marker, json.dumps(content, indent=2).encode())


def _refuse_old(python: Python) -> None:
    if python.numbers < OLDEST_PYTHON:
        raise InstallError(f"{python.executable} is Python {python.version}; worker processes need 3.9 or newer")


def _check(packages: Mapping[str, str]) -> None:
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
        "give the Python of an environment that has the packages: Environment.from_python('/path/to/bin/python'). "
        f"{error}"
    )


def missing_module_hint(error: str, environment: Environment, interpreter: str) -> str:
    """
    Return in which environment a module is missing, and how to install it; '' for other errors.

    :param error: of a worker process, in one line.
    :param interpreter: of that process.
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
