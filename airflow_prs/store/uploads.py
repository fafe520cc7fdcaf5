"""
Uploads that another process can revoke.

An upload completes on the condition that the object is still the one that was there when it began, or that there is
still none. So an upload that is being completed while it is revoked does not replace a later one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.connecting import Connection
from airflow_prs.object_storage.requests import asking
from airflow_prs.store.part_stream import PartStream
from airflow_prs.store.port import Unfinished

MARK: Final = "airflowprs"
"""Metadata of an object by which an upload recognises it as its own."""


class RevokedError(Exception):
    """The upload cannot appear any more."""


@dataclass(frozen=True, slots=True)
class Upload:
    """
    An upload.

    :param id: what the storage knows it by.
    :param mark: what the metadata of its object holds.
    :param etag: of what was there when it began, and what it may replace; None: nothing.
    """

    id: str
    mark: str
    etag: str | None

    def to_name(self) -> str:
        """Return its name for the port."""
        return json.dumps([self.id, self.mark, self.etag])


def read_upload(name: str) -> Upload:
    """
    Return the upload of that name.

    :raises ValueError: if there can be none.
    """
    with suppress(ValueError, TypeError):
        upload_id, mark, etag = json.loads(name)
        if isinstance(upload_id, str) and isinstance(mark, str) and isinstance(etag, str | None):
            return Upload(upload_id, mark, etag)
    raise ValueError(f"{name!r} is not the name of an upload")


class Uploads(ABC):
    """
    The uploads of one kind of storage.

    :param connection: to the bucket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @abstractmethod
    def begin(self, name: str, /, etag: str | None) -> Upload:
        """
        Begin an upload to an object.

        :param etag: of the object that is there; None: there is none.
        """

    @abstractmethod
    def revoke(self, name: str, upload: Upload) -> None:
        """Make sure that an upload of any process does not appear from now on."""

    def find(self, _prefix: str, _before: float, *, is_recursive: bool) -> Iterator[Unfinished]:  # noqa: ARG002
        """
        Yield the uploads of any process that nobody has written to since; see ``Store.find_unfinished``.

        Their keys are names of objects. Storage that forgets such uploads by itself has none.
        """
        return iter(())

    def discard(self, name: str, upload_id: str) -> None:
        """Remove what ``find`` has found."""
        self.revoke(name, Upload(upload_id, "", None))

    @contextmanager
    def writer(self, name: str, upload: Upload) -> Iterator[IO[bytes]]:
        """
        Write an object as a stream; it appears on a clean exit alone.

        :raises RevokedError: if the upload was revoked, or what it was to replace has changed.
        """
        stream = PartStream(lambda number, data: self._send(name, upload, number, data))
        try:
            yield cast("IO[bytes]", stream)
            self._complete(name, upload, stream.finish())
        except BaseException:
            stream.stop()
            with suppress(OSError):
                self._give_up(name, upload)
            raise
        stream.stop()

    @abstractmethod
    def _send(self, name: str, upload: Upload, number: int, data: bytes) -> str:
        """Send a part, and return what the storage calls it."""

    @abstractmethod
    def _complete(self, name: str, upload: Upload, parts: list[str]) -> None:
        """Let the object appear."""

    @abstractmethod
    def _give_up(self, name: str, /, upload: Upload) -> None:
        """Drop what was sent for an upload that nobody is going to complete."""

    def _asking(self, name: str) -> Any:
        return asking(self._connection.bucket, name)

    def _refused(self, name: str) -> StorageError:
        return StorageError(
            f"{self._connection.bucket}/{name}: the storage refuses to replace it, though nothing else has done so. "
            "Choose an object storage that honours If-Match for uploads in parts."
        )
