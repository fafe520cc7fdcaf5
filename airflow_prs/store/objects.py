"""The store on object storage: below a prefix of a bucket."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, cast

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.addresses import Address, Bucket, Kind
from airflow_prs.object_storage.connecting import Connection, connect_to
from airflow_prs.object_storage.ranges import RangeFile
from airflow_prs.object_storage.requests import asking
from airflow_prs.store.azure_uploads import AzureUploads
from airflow_prs.store.keys import check_key, check_prefix, superseded
from airflow_prs.store.object_names import to_key, to_name
from airflow_prs.store.part_stream import PART_BYTES
from airflow_prs.store.port import Found, Stat, Unfinished
from airflow_prs.store.s3_uploads import S3Uploads
from airflow_prs.store.uploads import RevokedError, Uploads, read_upload

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore.store import AzureStore, S3Store

_FEW_BYTES: Final = 1 << 20
"""What the client for few bytes reads or writes."""

_ONE_REQUEST_BYTES: Final = 64 << 20
"""What is put in one request; more goes in several."""

_DELETED_TOGETHER: Final = 1000

_NO_BATCH: Final[dict[Kind, tuple[type[Exception], ...]]] = {Kind.S3: (), Kind.AZURE: (StorageError,)}
"""What is raised where a request cannot delete several objects."""

_CREATE_TRIES: Final = 10


class ObjectStore:
    """
    Keys are objects below a prefix. Threads may share it.

    An upload is one of the storage's own that completes under a condition, see ``uploads``.

    :param address: the bucket and the prefix.
    :param connect: returns the connection to the bucket.
    """

    together: Final = 16

    def __init__(self, address: Address, connect: Callable[[Bucket], Connection] = connect_to) -> None:
        self._address = address
        self._connect = connect

    def __str__(self) -> str:
        return str(self._address)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object on the condition that there is none."""
        name = self._name(key)
        for number in range(_CREATE_TRIES):
            with suppress(FileExistsError), self._asking(name):
                self._client(len(data)).put(name, data, mode="create", use_multipart=False)
                return True
            # A request that was repeated because its answer was lost gets the same answer as the loser of a race.
            held = self.get(key, 0, len(data) + 1)
            if held is not None:
                return held == data
            # S3 also refuses while it is deleting the object, or creating it for somebody else.
            time.sleep(0.05 * number)
        raise StorageError(f"{self._address / key}: the storage says that it exists, but does not return it")

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        name = self._name(key)
        with self._asking(name):
            self._client(len(data)).put(name, data, use_multipart=len(data) > _ONE_REQUEST_BYTES)

    def copy(self, source: str, key: str) -> None:
        """Let the storage copy the object."""
        source_name, name = self._name(source), self._name(key)
        with self._asking(source_name):
            self._connection.bulk.copy(source_name, name)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Get an object, or the range of it."""
        name, start = self._name(key), start or 0
        if end is not None and end <= start:
            return None if self.stat(key) is None else b""
        try:
            with self._asking(name):
                return self._get(name, start, end)
        except FileNotFoundError:
            return None
        except StorageError as error:
            # Most storage refuses a range that begins where the object ends or later; else the client does.
            if error.code not in {"InvalidRange", "416", ""} or (stat := self.stat(key)) is None or start < stat.size:
                raise
            return b""

    def reader(self, key: str) -> IO[bytes]:
        """Return a file that gets ranges of the object."""
        stat = self.stat(key)
        if stat is None:
            raise FileNotFoundError(errno.ENOENT, "it does not exist", str(self._address / key))
        return cast("IO[bytes]", RangeFile(stat.size, partial(self._range, key)))

    def list(self, prefix: str, after: str | None = None) -> Sequence[str]:
        """List the objects page by page."""
        check_prefix(prefix)
        folder = self._folder()
        # No object has the name of a folder, so a prefix without its slash finds the same.
        name = folder + to_name(prefix)
        offset = name + _begin_after(after[len(prefix) :]) if after and after.startswith(prefix) else None
        with self._asking(name):
            pages = self._connection.objects.list(name.rstrip("/") or None, offset=offset or None, chunk_size=1000)
            keys = [to_key(found["path"][len(folder) :]) for page in pages for found in page]
        return sorted(key for key in keys if after is None or key > after)

    def list_folders(self, prefix: str) -> Sequence[str]:
        """Ask for the next part of the names below a prefix."""
        check_prefix(prefix)
        name = self._folder() + to_name(prefix)
        with self._asking(name):
            found = self._connection.objects.list_with_delimiter(name.rstrip("/") or None)
        return sorted(to_key(folder[len(name) :].rstrip("/")) for folder in found["common_prefixes"])

    def scan(self, prefix: str) -> Iterator[Found]:
        """List the objects page by page."""
        check_prefix(prefix)
        folder = self._folder()
        name = folder + to_name(prefix)
        with self._asking(name):
            for page in self._connection.objects.list(name.rstrip("/") or None, chunk_size=1000):
                for found in page:
                    key = to_key(found["path"][len(folder) :])
                    yield Found(key, found["size"], found["last_modified"].timestamp())

    def stat(self, key: str) -> Stat | None:
        """Ask for the size and the ETag of an object."""
        name = self._name(key)
        try:
            with self._asking(name):
                found = self._connection.objects.head(name)
        except FileNotFoundError:
            return None
        return Stat(found["size"], str(found["e_tag"]), found["last_modified"].timestamp())

    def delete(self, keys: Iterable[str]) -> None:
        """Delete many objects in one request."""
        names = map(self._name, keys)
        while some := list(islice(names, _DELETED_TOGETHER)):
            if len(some) > 1:
                # Azure says of a single one that it is missing, whatever became of the others. Azurite 3.37 knows no
                # such requests with a signature.
                with suppress(FileNotFoundError, *_NO_BATCH[self._address.bucket.kind]), self._asking(some[0]):
                    self._connection.objects.delete(some)
                    continue
            for name in some:
                with suppress(FileNotFoundError), self._asking(name):
                    self._delete(name)

    def delete_folder(self, prefix: str) -> None:
        """List the objects, and delete many in one request."""
        self.delete(found.key for found in self.scan(prefix))

    def new_upload(self, key: str) -> str:
        """Begin an upload; its name holds what is needed to complete it and to revoke it."""
        name = self._name(key)
        stat = self.stat(key)
        return self._uploads.begin(name, None if stat is None else stat.version).to_name()

    @contextmanager
    def writer(self, key: str, upload: str | None = None) -> Iterator[IO[bytes]]:
        """Put what is written, in parts if it is much."""
        name = self._name(key)
        if upload is None:
            with self._put_in_parts(name) as out:
                yield out
            return
        try:
            with self._uploads.writer(name, read_upload(upload)) as out:
                yield out
        except RevokedError:
            raise superseded(key) from None

    def revoke(self, key: str, upload: str) -> None:
        """Abort the upload, or change what its completion requires."""
        self._uploads.revoke(self._name(key), read_upload(upload))

    def find_unfinished(self, prefix: str, before: float, *, is_recursive: bool) -> Iterator[Unfinished]:
        """Ask for the uploads that the storage knows."""
        check_prefix(prefix)
        folder = self._folder()
        for found in self._uploads.find(folder + to_name(prefix), before, is_recursive=is_recursive):
            yield found._replace(key=to_key(found.key[len(folder) :]))

    def discard(self, unfinished: Unfinished) -> None:
        """Abort the upload."""
        self._uploads.discard(self._name(unfinished.key), unfinished.upload)

    def _folder(self) -> str:
        """Return what the names of all objects begin with."""
        return f"{self._address.key}/" if self._address.key else ""

    def _range(self, key: str, begin: int, end: int) -> bytes:
        data = self.get(key, begin, end)
        if data is None or len(data) != end - begin:
            raise StorageError(f"{self._address / key}: it was replaced or deleted while it was read")
        return data

    @contextmanager
    def _put_in_parts(self, name: str) -> Iterator[IO[bytes]]:
        bulk = self._connection.bulk
        import obstore

        with self._asking(name), obstore.open_writer(bulk, name, buffer_size=PART_BYTES) as file:
            yield cast("IO[bytes]", _Written(file))

    @cached_property
    def _connection(self) -> Connection:
        return self._connect(self._address.bucket)

    @cached_property
    def _uploads(self) -> Uploads:
        make = S3Uploads if self._address.bucket.kind is Kind.S3 else AzureUploads
        return make(self._connection)

    def _asking(self, name: str) -> Any:
        return asking(self._address.bucket, name)

    def _client(self, size: int) -> S3Store | AzureStore:
        return self._connection.objects if size <= _FEW_BYTES else self._connection.bulk

    def _get(self, name: str, start: int, end: int | None) -> bytes:
        if end is not None:
            return self._client(end - start).get(name, options={"range": (start, end)}).bytes().to_bytes()
        for client in self._connection.objects, self._connection.bulk:
            found = client.get(name, options={"range": {"offset": start}} if start else {})
            if client is self._connection.bulk or found.meta["size"] - start <= _FEW_BYTES:
                break
        return found.bytes().to_bytes()

    def _delete(self, name: str) -> None:
        if self._address.bucket.kind is Kind.AZURE:
            # obstore 0.12 sends even a single one as a batch.
            self._connection.native().delete_blob(name)
        else:
            self._connection.objects.delete(name)

    def _name(self, key: str) -> str:
        check_key(key)
        return (self._address / to_name(key)).key


class _Written(io.BufferedIOBase):
    """A file of obstore as a file of Python."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, buffer: ReadableBuffer, /) -> int:
        data = memoryview(buffer).cast("B")
        self._file.write(data)
        self._size += len(data)
        return len(data)


def _begin_after(rest: str) -> str:
    """
    Return after what to begin a list, at the latest, of keys that sort after one.

    :param rest: of that one, behind the prefix.
    """
    # Names that are not plain sort differently. SeaweedFS sorts by folder, and leaves out a folder of that very name.
    return rest[:-1] if rest.isascii() and rest.isalnum() else ""
