"""Requests for one object: each for the version that plan saw, repeated where the trouble may pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from airflow_prs.errors import StagingError, StorageError
from airflow_prs.object_storage.addresses import Address
from airflow_prs.object_storage.connecting import Connection, connect_to
from airflow_prs.object_storage.requests import asking, etag_of, is_changed, is_denied

_R = TypeVar("_R")

_PAUSES_S = (0.2, 1.0, 3.0)
"""Before each repetition of a request. The client itself repeats what it knows may pass."""


class RemoteFile:
    """
    An object in the version that plan saw.

    :param address: its address.
    :param version: its ETag; None: any version.
    :param is_over: set when the node ends; nothing is repeated then.
    """

    def __init__(self, address: Address, version: str | None, is_over: threading.Event) -> None:
        self.address = address
        self.version = version
        self._is_over = is_over

    def size(self) -> int:
        """
        Return its size in bytes.

        :raises StagingError: if it has changed, is gone, or cannot be accessed.
        """
        meta = self._ask(lambda connection: connection.objects.head(self.address.key))
        if self.version is not None and etag_of(self.address.bucket, meta) != self.version:
            raise self._changed(etag_of(self.address.bucket, meta))
        return int(meta["size"])

    def read(self, begin: int = 0, end: int | None = None) -> Any:
        """
        Return bytes of it as a buffer.

        :param begin: first byte.
        :param end: one past the last byte; None: all bytes, ``begin`` is 0 then.
        :raises StagingError: if it has changed, is gone, ends before ``end``, or cannot be accessed.
        """
        options: dict[str, Any] = {} if end is None else {"range": (begin, end)}
        if self.version is not None:
            options["if_match"] = self.version
        data = self._ask(lambda connection: connection.bulk.get(self.address.key, options=options).bytes())  # type: ignore[arg-type]
        if end is not None and len(data) != end - begin:
            raise StagingError(f"{self.address}: the object ends at byte {begin + len(data)}")
        return data

    def _ask(self, request: Callable[[Connection], _R]) -> _R:
        connection = _connect(self.address)
        try:
            return _repeated(self.address, lambda: request(connection), self._is_over)
        except StorageError:
            raise self._changed(self._version_now(connection)) from None
        except FileNotFoundError:
            raise StagingError(
                f"{self.address}: the object that plan listed is not there any more; it must stay there until the run "
                "is over"
            ) from None

    def _version_now(self, connection: Connection) -> str | None:
        try:
            return etag_of(self.address.bucket, connection.objects.head(self.address.key))
        except Exception:  # noqa: BLE001 - only the words of an error depend on it
            return None

    def _changed(self, found: str | None) -> StagingError:
        now = "" if found is None else f"; it has {found}"
        return StagingError(
            f"{self.address}: the object has changed since it was planned: it had the ETag {self.version}{now}; clear "
            "the plan task to start over"
        )


def list_objects(top: Address, is_over: threading.Event) -> list[tuple[Address, int, str | None]]:
    """
    Return an object, or all that are below it: address, size and ETag of each. Markers of folders are left out.

    :raises StagingError: if there is none, or the bucket cannot be accessed.
    """
    connection = _connect(top)
    pages = _repeated(top, lambda: list(connection.bulk.list(top.key or None)), is_over)
    found = [one for page in pages for one in page]
    if not found and top.key:
        try:
            found = [_repeated(top, lambda: connection.objects.head(top.key), is_over)]
        except FileNotFoundError:
            found = []
    folders = {one["path"].rpartition("/")[0] for one in found}
    found = [one for one in found if one["size"] or one["path"] not in folders]
    if not found:
        raise StagingError(f"{top}: there is no object, and none below it")
    return [(replace(top, key=one["path"]), int(one["size"]), etag_of(top.bucket, one)) for one in found]


def _connect(address: Address) -> Connection:
    try:
        return connect_to(address.bucket)
    except StorageError as error:
        raise StagingError(str(error)) from error


def _repeated(address: Address, request: Callable[[], _R], is_over: threading.Event) -> _R:
    """
    Return the answer to a request, which is repeated if its failure may pass.

    :raises StagingError: if it does not pass, or credentials are refused. What a changed or missing object leads to is
        raised as it is.
    """
    pauses_s = iter(_PAUSES_S)
    while True:
        try:
            with asking(address.bucket, address.key):
                return request()
        except StorageError as error:  # noqa: PERF203 - rare
            if is_changed(error):
                raise
            pause_s = None if is_denied(error) else next(pauses_s, None)
            if pause_s is None or is_over.wait(pause_s):
                raise StagingError(str(error)) from error
