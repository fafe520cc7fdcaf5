"""Open the store of a folder, or of a prefix on object storage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from airflow_prs.object_storage.addresses import Address, is_remote, parse_address
from airflow_prs.store.port import Store
from airflow_prs.store.posix import PosixStore

Location: TypeAlias = Path | Address
"""Where files are: a folder of a file system, or a prefix on object storage."""


def location_of(path: str | os.PathLike[str] | Address) -> Location:
    """
    Return the location that text names.

    :param path: a path, or an address such as ``s3://conn_id@bucket/key``.
    """
    if isinstance(path, str) and is_remote(path):
        return parse_address(path)
    return path if isinstance(path, Address) else Path(path)


def open_store(location: Location) -> Store:
    """Return the store whose keys begin at a location."""
    if isinstance(location, Address):
        from airflow_prs.store.objects import ObjectStore

        return ObjectStore(location)
    return PosixStore(location)
