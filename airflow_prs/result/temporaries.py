"""Temporary files in an output, which many runs may share. Their names and locks show which of them were abandoned."""

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
"""A temporary file of another run counts as abandoned if nobody has written to it for this long."""


def owned_temporary_name(path: Path, identity: RunIdentity) -> Path:
    """Return a unique path beside a file; the name shows the task and the run, and has at most 244 bytes."""
    return path.with_name(f".{path.name[:45]}.{_operator(identity)}.{_run(identity)}.{uuid4().hex}.tmp")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """
    Create a file and lock it, so that no other merge removes it.

    :raises OSError: if it cannot be made.
    """
    with path.open("xb") as file:
        # On storage without locks, abandoned files are never removed.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_leftovers(path: Path, identity: RunIdentity) -> None:
    """
    Remove temporary files that killed merges of the same task have left beside a file.

    Those of the same run are removed immediately, those of other runs after a day. Locked files are kept.
    """
    for found in path.parent.glob(f".*.{_operator(identity)}.*.tmp"):
        # A file that cannot be removed now does no harm; a later merge removes it.
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
