"""Connections to buckets. Who runs a task decides where the credentials come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.addresses import Bucket

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
"""Returns a connection to a bucket; raises StorageError if there is none."""


def _refuse(bucket: Bucket) -> Connection:
    raise StorageError(f"{bucket} cannot be used here: nothing has said where credentials come from")


_connect: Connect = _refuse
_connections: dict[Bucket, Connection] = {}


def use_connections(connect: Connect) -> None:
    """Take connections from here from now on, in this process."""
    global _connect  # noqa: PLW0603 - like the file systems that fsspec and pyarrow register
    if connect is not _connect:
        _connect = connect
        _connections.clear()


def connect_to(bucket: Bucket) -> Connection:
    """Return the connection to a bucket; each is made once in a process."""
    return _connections.get(bucket) or connect_again(bucket)


def connect_again(bucket: Bucket) -> Connection:
    """Return a new connection to a bucket, for a process that outlives changes of the credentials; keep it."""
    connection = _connect(bucket)
    _connections[bucket] = connection
    return connection
