"""
Make a virtual environment and install packages in it, with uv or with venv and pip.

Airflow's own function (prepare_virtualenv of the standard provider) is not used, for four reasons. It needs Airflow's
configuration. It writes the output of pip only to the log, and its error has no more than an exit code. It passes
variables such as PYTHONPATH and PIP_USER, which many images set, to pip, which then installs elsewhere. And when
Airflow kills the task, the programs that it started continue to write to the folder, which another shard may be making
again.
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
"""As Airflow's ``[standard] venv_install_method``: auto means uv if it is on the PATH, otherwise pip."""

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
"""Variables with which pip or uv would use the packages of another Python or install elsewhere."""

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
"""Long, since this is the first import of pandas, maybe from a slow disk."""
_LONGEST_OUTPUT = 6_000
"""In characters; the end is kept, where the problem is."""


class InstallError(PrsError):
    """A step of making an environment failed; the message names it and has the output of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """
    What an interpreter reports about itself.

    :param numbers: major and minor version.
    :param build: platform and binary interface.
    :param home: folder of the installation to which a virtual environment would link.
    """

    executable: str
    version: str
    numbers: tuple[int, int]
    build: str
    home: str


def ask_python(interpreter: str, environ: Mapping[str, str]) -> Python:
    """
    Run an interpreter, and return what it reports about itself.

    :raises InstallError: if it does not start.
    """
    answer = json.loads(_ask([interpreter, "-I", "-c", _ASK], environ))
    return Python(**{**answer, "numbers": tuple(answer["numbers"])})


def ask_packages(interpreter: str, environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return the version of each installed package, after importing those that worker processes need.

    :raises InstallError: if one of them cannot be imported.
    """
    packages: dict[str, str] = json.loads(_ask([interpreter, "-I", "-c", _ASK_PACKAGES], environ))
    return packages


def choose_tool(method: Method, environ: Mapping[str, str]) -> str | None:
    """
    Return the path of uv; None: use venv and pip.

    :raises InstallError: if the method is uv, which is not on the PATH.
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

    :param folder: folder of the environment, which cannot be moved afterwards.
    :param uv: path of uv; None: use venv and pip.
    :param lock: descriptor of a lock. The programs inherit it, so the lock is held until they have ended, too.
    :raises InstallError: if a program fails.
    """
    new = str(folder / "bin" / "python")
    make = [uv, "venv", "--python", python.executable] if uv else [python.executable, "-I", "-m", "venv"]
    fill = [uv, "pip", "install", "--python", new] if uv else [new, "-I", "-m", "pip", "install", "--no-input"]
    # In a file, since pip and uv accept options and ${VARIABLES} there, and it may be longer than a command line. The
    # file has no name, so nothing remains of it if this process is killed.
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
            # a project's folder may hold settings for uv
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
            raise InstallError(f"{_command_text(command)} ended with code {code}:\n{_output_text(output)}")


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
        raise InstallError(f"{command[0]} did not answer within {_ASK_TIMEOUT_S} seconds") from error
    if answer.returncode:
        raise InstallError(f"{command[0]} ended with code {answer.returncode}:\n{_tail(answer.stderr)}")
    return answer.stdout


def _cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in _MISLEADING}
    # uv must use the chosen Python; pip must not announce its newer version
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _command_text(command: Sequence[str]) -> str:
    """Return a command for an error, without the file of requirements, which no longer exists."""
    return " ".join(command).partition(" --requirement ")[0]


def _output_text(output: IO[bytes]) -> str:
    output.seek(0)
    return _tail(output.read())


def _tail(output: bytes) -> str:
    """Return the end of an output in entire lines, since a part of a secret would not be masked."""
    text = output.decode(errors="replace").strip()
    return text if len(text) <= _LONGEST_OUTPUT else text[-_LONGEST_OUTPUT:].partition("\n")[2]
