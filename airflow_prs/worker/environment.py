"""The check that this Python can run the worker runtime, made once before the entry script is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any

OLDEST_PYTHON = (3, 9)

LIBRARIES = {
    "parquet rows": ("pyarrow.parquet",),
    "files": (),
    "delimited": ("pandas",),
    "json_lines": ("pandas",),
    "parquet": ("pandas", "pyarrow.parquet"),
    "arrow": ("pandas", "pyarrow"),
}
"""Modules needed to read an input, by its kind, or to write rows. Importing them is the longest part of a start."""

OLDEST = {"pandas": (1, 5)}


class EnvironmentBrokenError(Exception):
    """This Python cannot run the entry script."""


def check_environment(kinds: Iterable[str]) -> None:
    """
    Import the modules that the inputs need, and no others.

    :param kinds: kinds of the inputs.
    :raises EnvironmentBrokenError: if Python or a library is too old, missing or broken.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise EnvironmentBrokenError(
            f"{sys.executable} is Python {sys.version.split()[0]}; worker processes need 3.9 or newer"
        )
    for name in dict.fromkeys(library for kind in kinds for library in LIBRARIES[kind]):
        _check_library(name)


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the imported libraries; None: not imported so far."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in ("pandas", "pyarrow"):
        found[name] = getattr(sys.modules.get(name), "__version__", None)
    return found


def _check_library(name: str) -> None:
    package = name.partition(".")[0]
    advice = f'; install it there: {sys.executable} -m pip install "pandas>=1.5" pyarrow'
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation raises exceptions of any type
        problem = "is missing" if isinstance(error, ModuleNotFoundError) and error.name == package else "is broken"
        raise EnvironmentBrokenError(
            f"{package} {problem} in {sys.executable} ({type(error).__name__}: {error}){advice}"
        ) from error
    version = sys.modules[package].__version__
    if package in OLDEST and _numbers(version) < OLDEST[package]:
        oldest = ".".join(map(str, OLDEST[package]))
        raise EnvironmentBrokenError(f"{sys.executable} has {package} {version}, older than {oldest}{advice}")


def _numbers(version: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
