"""Find out whether a storage keeps the promise on which everything else is built."""

from __future__ import annotations

import errno
from typing import Final
from uuid import uuid4

from airflow_prs.errors import RunFolderError, StorageError
from airflow_prs.store.port import Store

_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What a file system answers that has no hard links."""


def probe_store(store: Store, prefix: str) -> None:
    """
    Check that a storage creates a key once, and refuses to create it again with other bytes.

    :param prefix: of the key that is created and deleted again; it is empty or ends with `/`.
    :raises RunFolderError: if it does not.
    :raises StorageError: if object storage fails; names the store, since nobody knows the key.
    """
    key = f"{prefix}probe-{uuid4().hex}"
    try:
        _probe(store, key)
    except StorageError as error:
        renamed = type(error)(str(error).replace(f"{store}/{key}", str(store)))
        renamed.code = error.code
        raise renamed from None
    except BaseException:
        store.delete([key])
        raise
    store.delete([key])


def _probe(store: Store, key: str) -> None:
    try:
        if not store.create(key, b"first"):
            raise _unfit(store, "it answered that a new key exists")
        if store.create(key, b"second"):
            raise _unfit(store, "it replaced a file that was to be created only if it is missing")
        if store.get(key) != b"first":
            raise _unfit(store, "it did not return what was written")
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _unfit(store, f"it has no hard links ({error.strerror})") from error
        raise


def _unfit(store: Store, reason: str) -> RunFolderError:
    return RunFolderError(
        f"{store} cannot hold run folders: {reason}. So two attempts of a shard could overwrite each other. Choose as "
        "output a local disk or a mount with hard links, such as NFS, or an object storage that honours If-None-Match."
    )
