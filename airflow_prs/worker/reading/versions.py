"""
Versions of files: whether a file is still the one that plan saw.

A version is text that only plan makes and only this module looks into; of storage that names its versions itself it
would be such a name.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

SEPARATOR = "-"
"""Between size and moment of the last change, nanoseconds since the epoch, of which a version is made."""

_NS = 10**9


def find_change(path: str, version: str) -> str | None:
    """
    Say how a file differs from what it was; None: it does not.

    :param version: what it was.
    :raises OSError: if it cannot be looked at.
    """
    status = os.stat(path)
    found = f"{status.st_size}{SEPARATOR}{status.st_mtime_ns}"
    return None if found == version else f"it had {_described(version)}; it has {_described(found)}"


def _described(version: str) -> str:
    size, _, modified_ns = version.partition(SEPARATOR)
    seconds, rest = divmod(int(modified_ns), _NS)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{size} bytes, last changed {moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
