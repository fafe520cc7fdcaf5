"""Say in our own errors what object storage refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.addresses import Bucket

_QUERY = re.compile(r"\?[^\s\"'<>)]*")
"""The query of a URL, which holds the signature if the credentials are a signed URL."""

_MOST_CHARACTERS = 500


@contextmanager
def storage_errors(bucket: Bucket) -> Iterator[None]:
    """
    Raise StorageError in place of an error of obstore in a block.

    These errors pass, as the caller knows what they mean: FileNotFoundError, ValueError, PreconditionError.
    """
    from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

    try:
        yield
    except PreconditionError:
        raise
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise StorageError(
            f"{bucket} refuses the credentials of {_connection(bucket)}, or does not allow them this request: "
            f"{_told(error)}"
        ) from error
    except BaseError as error:
        raise StorageError(f"{bucket} cannot be reached through {_connection(bucket)}: {_told(error)}") from error


def no_bucket(bucket: Bucket, error: Exception) -> StorageError:
    """Return the error that a bucket does not exist."""
    return StorageError(f"{bucket} does not exist for {_connection(bucket)}: {_told(error)}")


def _connection(bucket: Bucket) -> str:
    if bucket.conn_id is None:
        return "the default credentials, as the address names no connection"
    return f"the connection {bucket.conn_id!r}"


def _told(error: Exception) -> str:
    """Return the first part of an error of obstore, which goes on with its source; without signatures."""
    return _QUERY.sub("?...", " ".join(str(error).partition("\n\nDebug source")[0].split()))[:_MOST_CHARACTERS]
