"""Multipart uploads of S3. To revoke one is to abort it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.requests import is_changed
from airflow_prs.store.port import Unfinished
from airflow_prs.store.uploads import MARK, RevokedError, Upload, Uploads

_TRIES: Final = 20


class S3Uploads(Uploads):
    """
    Uploads by a client of boto3.

    The object may be replaced by somebody else while an upload to it goes on. Then the upload completes under the
    condition that the object is still that one, and only if it was not revoked before: who revokes it, replaces the
    object later.
    """

    def begin(self, name: str, /, etag: str | None) -> Upload:
        """Create a multipart upload."""
        mark = uuid4().hex
        with self._asking(name):
            created = self._client.create_multipart_upload(**self._object(name), Metadata={MARK: mark})
        return Upload(created["UploadId"], mark, etag)

    def revoke(self, name: str, upload: Upload) -> None:
        """Abort it."""
        try:
            with self._asking(name):
                self._client.abort_multipart_upload(**self._upload(name, upload))
        except StorageError as error:
            if not _is_gone(error):
                raise

    def find(self, prefix: str, before: float, *, is_recursive: bool) -> Iterator[Unfinished]:
        """List the multipart uploads, and the parts of those that are old enough."""
        options = {"Bucket": self._connection.bucket.name, "Prefix": prefix}
        with self._asking(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(**options)
            found = [
                (upload["Key"], upload["UploadId"], upload["Initiated"].timestamp())
                for page in pages
                for upload in page.get("Uploads", ())
            ]
        for name, upload_id, begun in found:
            if begun < before and name.startswith(prefix) and (is_recursive or "/" not in name[len(prefix) :]):
                size, modified = self._look_at_parts(name, upload_id)
                if max(begun, modified) < before:
                    yield Unfinished(name, upload_id, size, max(begun, modified))

    def _look_at_parts(self, name: str, upload_id: str) -> tuple[int, float]:
        """Return the size of all parts, and when the last one was written, or 0."""
        size, modified = 0, 0.0
        try:
            with self._asking(name):
                for page in self._client.get_paginator("list_parts").paginate(**self._object(name), UploadId=upload_id):
                    for part in page.get("Parts", ()):
                        size += part["Size"]
                        modified = max(modified, part["LastModified"].timestamp())
        except StorageError as error:
            if not _is_gone(error):
                raise
        return size, modified

    def _send(self, name: str, upload: Upload, number: int, data: bytes) -> str:
        try:
            with self._asking(name):
                sent = self._client.upload_part(**self._upload(name, upload), PartNumber=number + 1, Body=data)
        except StorageError:
            if not self._is_open(name, upload):
                raise RevokedError from None
            raise
        return str(sent["ETag"])

    def _complete(self, name: str, upload: Upload, parts: list[str]) -> None:
        listed = {"Parts": [{"PartNumber": number, "ETag": part} for number, part in enumerate(parts, 1)]}
        etag = upload.etag
        for number in range(_TRIES):
            condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
            try:
                with self._asking(name):
                    self._client.complete_multipart_upload(
                        **self._upload(name, upload), MultipartUpload=listed, **condition
                    )
            except OSError as error:
                failure = error
            else:
                return
            etag, mark = self._look(name)
            # The answer to a request that was repeated, because the first answer was lost, is the same.
            if mark == upload.mark:
                return
            # In this order: an upload that is revoked after the look does not fit what its revoker puts there.
            if not self._is_open(name, upload):
                raise RevokedError
            if not is_changed(failure):
                raise failure
            time.sleep(0.05 * number)
        raise self._refused(name)

    def _give_up(self, name: str, /, upload: Upload) -> None:
        self.revoke(name, upload)

    def _look(self, name: str) -> tuple[str | None, str | None]:
        """Return the ETag and the mark of an object."""
        try:
            with self._asking(name):
                found = self._client.head_object(**self._object(name))
        except FileNotFoundError:
            return None, None
        return found["ETag"], found["Metadata"].get(MARK)

    def _is_open(self, name: str, upload: Upload) -> bool:
        try:
            with self._asking(name):
                self._client.list_parts(**self._upload(name, upload), MaxParts=1)
        except StorageError as error:
            if _is_gone(error):
                return False
            raise
        return True

    @property
    def _client(self) -> Any:
        return self._connection.native()

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._connection.bucket.name, "Key": name}

    def _upload(self, name: str, upload: Upload) -> dict[str, str]:
        return {**self._object(name), "UploadId": upload.id}


def _is_gone(error: OSError) -> bool:
    return isinstance(error, StorageError) and error.code == "NoSuchUpload"
