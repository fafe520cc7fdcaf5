"""Requirements: lines that say what pip is to install."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

NEEDED = ("pandas", "pyarrow")
"""Packages that worker processes need, and that are therefore always installed."""

ALLOWED = "a requirement as pip takes it, such as 'scikit-learn==1.5.2'"

_NUMPY_2 = Version("2.0.0")
_FIRST_FOR_NUMPY_2 = {"pandas": Version("2.2.2"), "pyarrow": Version("16.1.0")}
"""Older versions fail on import with numpy 2, although their own requirements allow it."""

_PYARROW_FOR_NUMPY_1 = "pyarrow<20"
"""Newer versions refuse numpy 1 on import, although their own requirements allow it."""

_COMMENT = re.compile(r"(^|\s+)#.*$")
_FILE_OPTION = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)(?:\s*=?\s*)(.+)", re.DOTALL)
_IN_URL = re.compile(r"https?://([^/\s@]+)@")
_VARIABLE = re.compile(r"\$\{\w+\}")
_OWN_OPTIONS = re.compile(r"\s--\w")
"""Options of one requirement, such as its hashes."""


def split_lines(text: str) -> list[str]:
    """Split the text of a requirements file: without comments, and with continued lines joined."""
    return [line for line in map(strip_comment, re.sub(r"\\\r?\n", " ", text).splitlines()) if line]


def strip_comment(line: str) -> str:
    """Return a line without its comment."""
    return _COMMENT.sub("", line).strip()


def find_problem(line: str) -> str | None:
    """
    Return the problem of a requirement, as far as it is known before the installation; None: there is none.

    A requirement must be the same on every node. Allowed are names, URLs, absolute paths, options of pip, and
    requirements files, which plan reads.
    """
    if _holds_secret(line):
        # The line itself is not shown: errors are stored, and read by many.
        return (
            "a requirement holds a password or token in its URL; allowed: ${NAME} in its place, an environment variable"
            " of the nodes"
        )
    option = _FILE_OPTION.fullmatch(line)
    if option and option[1] in {"-e", "--editable"}:
        return f"{line!r} would install from a folder that may change; allowed: {ALLOWED}, or a wheel"
    if option and option[1] in {"-c", "--constraint"} and not _is_url(option[2]):
        return f"{line!r} names a file that nodes may not have; allowed: a URL, or the versions in the requirements"
    if line.startswith("-"):
        return None
    if _is_relative(line):
        return f"{line!r} is a relative path, unknown to nodes; allowed: {ALLOWED}, a URL, or an absolute path"
    return None if _is_url(line) or line.startswith("/") else _find_syntax_problem(line)


def nested_file(line: str) -> str | None:
    """Return the path of the requirements file that a line names; None: it names none, or a URL, which pip reads."""
    option = _FILE_OPTION.fullmatch(line)
    return option[2] if option and option[1] in {"-r", "--requirement"} and not _is_url(option[2]) else None


def complete(requirements: Sequence[str]) -> tuple[str, ...]:
    """Add what worker processes need: pandas and pyarrow, and a numpy and pyarrow that fit old ones of them."""
    specifiers: dict[str, list[SpecifierSet]] = {}
    for line in requirements:
        name, specifier = _read(line)
        specifiers.setdefault(name, []).append(specifier)

    def ends_before(name: str, first: Version) -> bool:
        return name in specifiers and all(_ends_before(first, specifier) for specifier in specifiers[name])

    added = [name for name in NEEDED if name not in specifiers]
    if "numpy" not in specifiers and any(ends_before(name, first) for name, first in _FIRST_FOR_NUMPY_2.items()):
        added.append("numpy<2")
    if "pyarrow" in added and ("numpy<2" in added or ends_before("numpy", _NUMPY_2)):
        added[added.index("pyarrow")] = _PYARROW_FOR_NUMPY_1
    return (*requirements, *added)


def _read(line: str) -> tuple[str, SpecifierSet]:
    """Return the name in a line ('' if there is none) and the allowed versions."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet

    if line.endswith(".whl") and " " not in line:
        return canonicalize_name(PurePath(line).name.split("-")[0]), SpecifierSet()
    try:
        requirement = Requirement(_OWN_OPTIONS.split(line)[0])
    except InvalidRequirement:
        return "", SpecifierSet()
    return canonicalize_name(requirement.name), requirement.specifier


def _ends_before(first: Version, specifier: SpecifierSet) -> bool:
    """Whether no version from ``first`` on is allowed; it is enough to try the versions at which the set may end."""
    return not any(
        specifier.contains(version, prereleases=True) for version in _candidates(specifier, first) if version >= first
    )


def _candidates(specifier: SpecifierSet, first: Version) -> Iterable[Version]:
    yield first
    yield Version("999999")
    for part in specifier:
        try:
            named = Version(part.version.removesuffix(".*"))
        except InvalidVersion:  # "===" takes any text
            continue
        yield named
        yield Version(f"{named.major}.{named.minor}.{named.micro + 1}")


def _find_syntax_problem(line: str) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(_OWN_OPTIONS.split(line)[0])
    except InvalidRequirement as error:
        return f"{line!r} is not a valid requirement ({str(error).splitlines()[0]}); allowed: {ALLOWED}"
    return None


def _holds_secret(line: str) -> bool:
    return any(not _VARIABLE.fullmatch(found[1].rpartition(":")[2]) for found in _IN_URL.finditer(line))


def _is_url(text: str) -> bool:
    return "://" in text


def _is_relative(line: str) -> bool:
    path = line.partition(";")[0]
    return line.startswith(".") or ("/" in path and "@" not in path and not _is_url(path) and not path.startswith("/"))
