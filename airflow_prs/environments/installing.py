"""
Makes a virtual environment and installs packages in it, with uv or with venv and pip.

Airflow's prepare_virtualenv (in its standard provider) does not fit. It needs Airflow's configuration. pip's output
goes to the log alone, and the error has only an exit code. pip gets variables such as PYTHONPATH and PIP_USER, which
many images set. And when Airflow kills the task, the programs live on and write where another shard makes it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from airflow_prs.errors import PrsError

Method = Literal["auto", "uv", "pip"]
"""As Airflow's ``[standard] venv_install_method``: auto takes uv where it is on the PATH."""

_MISLEADING = frozenset(
    {
        "PYTHONHOME",
        "PYTHONPATH",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "PIP_USER",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "VIRTUAL_ENV",
        "__PYVENV_LAUNCHER__",
    }
)
"""Variables that point at another Python's packages, or away from the new environment."""

_ASK = """
import json, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": sys.version.split()[0],
    "numbers": sys.version_info[:2],
    "build": "%s %s" % (sysconfig.get_config_var("SOABI"), sysconfig.get_platform()),
    "home": sys.base_prefix,
}))
"""
_ASK_PACKAGES = """
import json
from importlib.metadata import distributions
import pandas
import pyarrow.parquet
print(json.dumps({each.metadata["Name"].lower(): each.version for each in distributions()}))
"""
_ASK_TIMEOUT_S = 300
"""Long, because it imports pandas for the first time, on a disk that may be slow."""
_LONGEST_OUTPUT = 6_000
"""In characters; the end is kept, where the error is."""


class InstallError(PrsError):
    """A step of making an environment failed; names the step and has the output of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """
    What is known of an interpreter.

    :param numbers: major and minor version.
    :param build: platform and binary interface.
    :param home: folder of the installation that a virtual environment would link to.
    """

    executable: str
    version: str
    numbers: tuple[int, int]
    build: str
    home: str


def ask_python(interpreter: str, environ: Mapping[str, str]) -> Python:
    """
    Return the version and build of an interpreter, by running it.

    :raises InstallError: if it does not start.
    """
    answer = json.loads(_ask([interpreter, "-I", "-c", _ASK], environ))
    return Python(**{**answer, "numbers": tuple(answer["numbers"])})


def ask_packages(interpreter: str, environ: Mapping[str, str]) -> dict[str, str]:
    """
    Import what worker processes need, and return all installed distributions with their versions.

    :raises InstallError: if something cannot be imported.
    """
    packages: dict[str, str] = json.loads(_ask([interpreter, "-I", "-c", _ASK_PACKAGES], environ))
    return packages


def choose_tool(method: Method, environ: Mapping[str, str]) -> str | None:
    """
    Return the path of uv; None: it is not to be used.

    :raises InstallError: if it must be used and is not installed.
    """
    uv = None if method == "pip" else shutil.which("uv", path=environ.get("PATH", os.defpath))
    if uv is None and method == "uv":
        raise InstallError("[standard] venv_install_method is uv, which is not on the PATH")
    return uv


def install(
    folder: Path, python: Python, requirements: Sequence[str], *, uv: str | None, environ: Mapping[str, str], lock: int
) -> None:
    """
    Make a virtual environment and install packages in it.

    :param folder: where; a virtual environment cannot be moved afterwards.
    :param uv: path of uv; None: venv and pip are used.
    :param lock: descriptor that the programs inherit, so that it stays locked until they have ended.
    :raises InstallError: if it fails.
    """
    new = str(folder / "bin" / "python")
    make = [uv, "venv", "--python", python.executable] if uv else [python.executable, "-I", "-m", "venv"]
    fill = [uv, "pip", "install", "--python", new] if uv else [new, "-I", "-m", "pip", "install", "--no-input"]
    # A file, because pip and uv accept options and ${VARIABLES} in it, and it may be longer than a command line. It has
    # no name, so that it is gone if this process is killed.
    with tempfile.TemporaryFile() as wanted:
        wanted.write("".join(f"{line}\n" for line in requirements).encode())
        wanted.flush()
        for command in ([*make, str(folder)], [*fill, "--requirement", f"/dev/fd/{wanted.fileno()}"]):
            _run(command, environ=_cleaned(environ), inherited=(lock, wanted.fileno()))


def _run(command: Sequence[str], *, environ: Mapping[str, str], inherited: Sequence[int]) -> None:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # not where a project may have settings for uv
            cwd="/",
            env=dict(environ),
            pass_fds=inherited,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:  # Airflow stops the task
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if code:
            raise InstallError(f"{_shown(command)} ended with code {code}:\n{_written(output)}")


def _ask(command: Sequence[str], environ: Mapping[str, str]) -> bytes:
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=_cleaned(environ),
            timeout=_ASK_TIMEOUT_S,
        )
    except OSError as error:
        raise InstallError(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{command[0]} does not answer within {_ASK_TIMEOUT_S} seconds") from error
    if answer.returncode:
        raise InstallError(f"{command[0]} ended with code {answer.returncode}:\n{_tail(answer.stderr)}")
    return answer.stdout


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in _MISLEADING}
    # the Python is chosen already; news of a newer pip are not wanted
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _shown(command: Sequence[str]) -> str:
    """Return a command without the name of a file that is gone when this is read."""
    return " ".join(command).partition(" --requirement ")[0]


def _written(output: IO[bytes]) -> str:
    output.seek(0)
    return _tail(output.read())


def _tail(output: bytes) -> str:
    """Return the end of an output, in complete lines, because half a secret would not be masked."""
    text = output.decode(errors="replace").strip()
    return text if len(text) <= _LONGEST_OUTPUT else text[-_LONGEST_OUTPUT:].partition("\n")[2]
