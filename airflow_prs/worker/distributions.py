"""
A digest of the distributions that are installed for an interpreter.

The interpreter may be another one: it runs the text of this module, which therefore imports nothing of the package. The
names of folders contain name and version; reading the metadata in them would take ten times as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

_DETAILS = ("direct_url.json", "PKG-INFO")
"""Files with the source of a distribution, and with its version where old tools leave it out of the folder's name."""


def describe_python() -> dict[str, Any]:
    """Return the version of this interpreter and a digest of all distributions: name, version, direct_url."""
    found = [each for folder in sys.path if folder for each in _found_in(folder)]
    return {"python": sys.version, "distributions": hashlib.sha256(json.dumps(found).encode()).hexdigest()}


def _found_in(folder: str) -> list[Any]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info", ".egg-link")))
    except NotADirectoryError:  # an archive
        return [[os.path.basename(folder), os.path.getsize(folder)]]
    except OSError:
        return []
    return [[name, *(_text(os.path.join(folder, name, file)) for file in _DETAILS)] for name in names]


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


if __name__ == "__main__":
    print(json.dumps(describe_python()))  # noqa: T201 - the caller reads it from stdout
