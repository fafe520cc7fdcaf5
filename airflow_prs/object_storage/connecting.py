"""Connections to buckets. Who runs a task decides where the credentials come from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.addresses import Bucket, Kind

if TYPE_CHECKING:
    from obstore.store import AzureStore, S3Store


@dataclass(frozen=True, slots=True)
class Connection:
    """
    A connection to a bucket.

    :param bucket: the bucket.
    :param objects: client for requests that carry few bytes; its keys start at the top of the bucket.
    :param bulk: the same, with time for requests that carry many bytes.
    :param native: returns the storage's own client, for uploads that complete under a condition, and for keys that
        ``objects`` refuses: a boto3 client of S3, or a ContainerClient of azure.storage.blob.
    """

    bucket: Bucket
    objects: S3Store | AzureStore
    bulk: S3Store | AzureStore
    native: Callable[[], Any]


Connect = Callable[[Bucket], Connection]
"""Returns a connection to a bucket; raises StorageError if there is none, and ImportError if packages are missing."""

_EXTRAS: Final = {Kind.S3: "s3", Kind.AZURE: "azure"}


def _refuse(bucket: Bucket) -> Connection:
    raise StorageError(f"{bucket} cannot be used here: nothing has said where credentials come from")


_connect: Connect = _refuse
_connections: dict[Bucket, Connection] = {}
_connecting: Final = threading.Lock()


def use_connections(connect: Connect) -> None:
    """Take connections from here from now on, in this process."""
    global _connect  # noqa: PLW0603 - like the file systems that fsspec and pyarrow register
    if connect is not _connect:
        _connect = connect
        _connections.clear()


def connect_to(bucket: Bucket) -> Connection:
    """
    Return the connection to a bucket; each is made once in a process. Threads may call it.

    :raises StorageError: if there is none, or packages are not installed.
    """
    if (connection := _connections.get(bucket)) is None:
        with _connecting:
            connection = _connections.get(bucket) or connect_again(bucket)
    return connection


def connect_again(bucket: Bucket) -> Connection:
    """
    Return a new connection to a bucket, for a process that outlives changes of the credentials; keep it.

    :raises StorageError: if there is none, or packages are not installed.
    """
    try:
        connection = _connect(bucket)
    except ImportError as error:
        raise StorageError(
            f"{bucket} cannot be used here: packages are not installed ({error}). Install them on all machines: "
            f"pip install 'airflow-prs[{_EXTRAS[bucket.kind]}]'"
        ) from None
    _connections[bucket] = connection
    return connection
