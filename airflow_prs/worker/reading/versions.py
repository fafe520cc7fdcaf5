"""
Versions of files: whether a file is still the one that plan listed.

A version is text that only plan makes and only this module parses. For storage with versions of its own it would be
the name of such a version.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

SEPARATOR = "-"
"""A version is the file's size, this separator, and the time of the last change in nanoseconds since the epoch."""

_NS = 10**9


def find_change(path: str, version: str) -> str | None:
    """
    Return how a file differs from its version, in words; None: it does not.

    :param version: the version that plan saw.
    :raises OSError: if the file cannot be accessed.
    """
    status = os.stat(path)
    found = f"{status.st_size}{SEPARATOR}{status.st_mtime_ns}"
    return None if found == version else f"it had {_described(version)}; it has {_described(found)}"


def _described(version: str) -> str:
    size, _, modified_ns = version.partition(SEPARATOR)
    seconds, rest = divmod(int(modified_ns), _NS)
    modified = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{size} bytes, last changed {modified:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
