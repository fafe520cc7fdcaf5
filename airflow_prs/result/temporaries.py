"""Temporary files in an output, which many runs may share: what a killed merge has left is told from what is in use."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from airflow_prs.records import RunIdentity

_ABANDONED_S = 24 * 3600
"""A file of another run that nobody has written to for so long is one that its merge will not come back to."""


def owned_temporary_name(path: Path, identity: RunIdentity) -> Path:
    """Name beside a file that no other writer uses, and that tells whose it is; it is at most 244 bytes long."""
    return path.with_name(f".{path.name[:45]}.{_operator(identity)}.{_run(identity)}.{uuid4().hex}.tmp")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """
    Make a file, and let nobody take it for a leftover meanwhile.

    :raises OSError: if it cannot be made.
    """
    with path.open("xb") as file:
        # Where storage knows no locks, no leftover is ever removed.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_leftovers(path: Path, identity: RunIdentity) -> None:
    """
    Remove what killed merges of the same task have left beside a file.

    Those of the same run are removed at once, those of other runs after a day; none that a living process holds.
    """
    for found in path.parent.glob(f".*.{_operator(identity)}.*.tmp"):
        # What cannot be removed now may be removed another time; it is in nobody's way.
        with suppress(OSError):
            is_own = found.name.split(".")[-3] == _run(identity)
            if is_own or found.stat().st_mtime < time.time() - _ABANDONED_S:
                _remove_unless_held(found)


def _remove_unless_held(path: Path) -> None:
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _operator(identity: RunIdentity) -> str:
    return _digest(identity.dag_id, identity.task_id)


def _run(identity: RunIdentity) -> str:
    return _digest(identity.run_id)


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12]
