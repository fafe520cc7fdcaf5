"""Checks and errors that the adapters of the store share."""

from __future__ import annotations

from airflow_prs.errors import SupersededError
from airflow_prs.store.files import is_temporary


def check_key(key: str) -> None:
    """
    Check that a key means the same on every storage.

    :raises ValueError: if it is absolute, has a part that is empty, `.` or `..`, holds a NUL, or ends like the name of
        a temporary file.
    """
    parts = key.split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in key or is_temporary(parts[-1]):
        raise ValueError(f"{key!r} is not a key: a key is a relative path without empty parts, '.' and '..'")


def check_prefix(prefix: str) -> None:
    """
    Check a prefix of keys.

    :raises ValueError: if it is not empty, and is not a key with a `/` at the end.
    """
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} is not a prefix: a prefix ends with '/'")
        check_key(prefix[:-1])


def superseded(key: str) -> SupersededError:
    """Return the error for an upload that was revoked."""
    return SupersededError(f"A later merge has taken over {key}, so this one stops and publishes nothing.")
