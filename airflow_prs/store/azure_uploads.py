"""
Lists of blocks of Azure Blob Storage, which nothing can abort.

An upload that is going to replace a blob is revoked by a change of that blob's metadata, and so of its ETag. An upload
that began while there was no blob cannot be revoked by another process as long as there is none. It may appear until
another one does, which then has to start over; from then on it cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeVar
from uuid import uuid4

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.connecting import Connection
from airflow_prs.object_storage.requests import is_changed
from airflow_prs.store.uploads import MARK, RevokedError, Upload, Uploads

_REVOKED: Final = "airflowprs_revoked"
"""Metadata of a blob: the upload that cannot replace it any more."""

_WAITS_S: Final = (0.1, 0.3, 1, 3, 6)
"""The SDK's own first wait is 15 seconds and longer."""

_PASSING: Final = {408, 429, 500, 502, 503, 504}
"""Status codes of HTTP for which a request is repeated."""

_T = TypeVar("_T")


class AzureUploads(Uploads):
    """Uploads by a ContainerClient of azure.storage.blob."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._lock = Lock()
        self._begun: dict[str, bool] = {}
        """Uploads of this process that the storage was not asked to complete, and whether it may still be asked."""

    def begin(self, _name: str, /, etag: str | None) -> Upload:
        """Make up a name for its blocks; nothing is sent."""
        upload = Upload(uuid4().hex, uuid4().hex, etag)
        self._begun[upload.id] = True
        return upload

    def revoke(self, name: str, upload: Upload) -> None:
        """Change the ETag that it requires, unless this process has not yet asked for its completion."""
        if self._is_kept_back(upload) or upload.etag is None:
            return
        try:
            found = self._look(name)
            if found.etag == upload.etag:
                metadata = {**found.metadata, _REVOKED: upload.id}
                self._ask(name, lambda blob: blob.set_blob_metadata(metadata, **_condition(upload), retry_total=0))
        except OSError as error:
            # What it requires is gone already.
            if not is_changed(error):
                raise

    def _send(self, name: str, upload: Upload, number: int, data: bytes) -> str:
        block = f"{upload.id}-{number:05}"
        self._ask(name, lambda blob: blob.stage_block(block, data, length=len(data), retry_total=0))
        return block

    def _complete(self, name: str, upload: Upload, parts: list[str]) -> None:
        with self._lock:
            if not self._begun.get(upload.id, True):
                raise RevokedError
            self._begun.pop(upload.id, None)
        from azure.storage.blob import BlobBlock

        # The name of an upload may be used in vain a second time, so it does not tell what has appeared.
        mark = uuid4().hex
        blocks = [BlobBlock(part) for part in parts]
        try:
            self._ask(
                name,
                lambda blob: blob.commit_block_list(blocks, metadata={MARK: mark}, **_condition(upload), retry_total=0),
            )
        except OSError as error:
            # The blocks are gone as soon as somebody else has completed a list of others.
            is_gone = isinstance(error, StorageError) and error.code == "InvalidBlockList"
            if not is_gone and not is_changed(error):
                raise
            etag, found_mark = self._etag_and_mark(name)
            # The answer to a request that was repeated, because the first answer was lost, is the same.
            if found_mark == mark:
                return
            if etag == upload.etag and not is_gone:
                raise self._refused(name) from None
            raise RevokedError from None

    def _give_up(self, _name: str, /, upload: Upload) -> None:
        """Leave the blocks to the storage, which removes them after a week."""
        self._is_kept_back(upload)

    def _is_kept_back(self, upload: Upload) -> bool:
        """Keep an upload of this process from being completed, unless it is too late."""
        with self._lock:
            if upload.id not in self._begun:
                return False
            self._begun[upload.id] = False
            return True

    def _etag_and_mark(self, name: str) -> tuple[str | None, str | None]:
        try:
            found = self._look(name)
        except FileNotFoundError:
            return None, None
        return found.etag, found.metadata.get(MARK)

    def _look(self, name: str) -> Any:
        return self._ask(name, lambda blob: blob.get_blob_properties(retry_total=0))

    def _ask(self, name: str, do: Callable[[Any], _T]) -> _T:
        """Send a request, and again if the storage is busy or does not answer."""
        with self._asking(name):
            from azure.core.exceptions import AzureError

            blob = self._connection.native().get_blob_client(name)
            for wait_s in _WAITS_S:
                try:
                    return do(blob)
                except AzureError as error:
                    if getattr(error, "status_code", None) not in {None, *_PASSING}:
                        raise
                time.sleep(wait_s)
            return do(blob)


def _condition(upload: Upload) -> dict[str, Any]:
    from azure.core import MatchConditions

    if upload.etag is None:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": upload.etag, "match_condition": MatchConditions.IfNotModified}
