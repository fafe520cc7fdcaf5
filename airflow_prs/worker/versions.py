"""
Versions of files: whether a file is still the one that plan saw.

A version is text that nobody but this module looks into; storage that names its versions itself would give its own.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

_NS = 10**9


def versions_of(sizes: Any, modified_ns: Any) -> Any:
    """
    Name the versions of many files.

    :param sizes: in bytes; an array of Arrow, as ``modified_ns`` is.
    :param modified_ns: moments of the last change, nanoseconds since the epoch.
    """
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(sizes.cast("string"), modified_ns.cast("string"), "-")


def find_change(path: str, version: str) -> str | None:
    """
    Say how a file differs from what it was; None: it does not.

    :param version: what it was, as versions_of names it.
    :raises OSError: if it cannot be looked at.
    """
    status = os.stat(path)
    found = f"{status.st_size}-{status.st_mtime_ns}"
    return None if found == version else f"it had {_described(version)}; it has {_described(found)}"


def _described(version: str) -> str:
    size, _, modified_ns = version.partition("-")
    seconds, rest = divmod(int(modified_ns), _NS)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{size} bytes, last changed {moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
