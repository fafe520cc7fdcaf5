"""The store in a folder of a file system: a local disk, or a mount with hard links, such as NFS."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, TypeVar

from airflow_prs.store import files
from airflow_prs.store.keys import check_key, check_prefix, superseded
from airflow_prs.store.port import Found, Stat, Unfinished

_Written = TypeVar("_Written")

_NO_SUCH_KEY: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""There is no file of that name; there may be a folder."""


class PosixStore:
    """
    Keys are files below a folder. A key cannot be a folder of another key.

    An upload is a temporary file beside its key. It exists from ``new_upload`` on, so that revoking it before it is
    begun is the same as later: the file is removed.

    :param root: the folder; it is made when something is written.
    """

    together: Final = 1

    def __init__(self, root: str | Path) -> None:
        self._root = str(Path(root).absolute())

    def __str__(self) -> str:
        return self._root

    def create(self, key: str, data: bytes) -> bool:
        """Write a file of a temporary name, link it to its own, and make both durable."""
        path = self._path(key)
        is_new = _make_folder_if_missing(path.parent, lambda: files.write_once(path, data))
        if not is_new:
            # NFS also answers "exists" if it repeats a request whose first answer was lost.
            held = self.get(key, 0, len(data) + 1)
            if held is None:
                raise FileExistsError(errno.EEXIST, "in the way of a key is a folder, or a file removed just now", path)
            if held != data:
                return False
            files.sync_folder(path.parent)
        return True

    def put(self, key: str, data: bytes) -> None:
        """Write a file of a temporary name, rename it, and make both durable."""
        with self.writer(key) as out:
            out.write(data)

    def copy(self, source: str, key: str) -> None:
        """Give the file a second name: no file changes after it was written."""
        path = self._path(key)
        temporary = files.temporary_name(path)
        try:
            _make_folder_if_missing(path.parent, lambda: os.link(self._path(source), temporary))
            temporary.replace(path)
        finally:
            # If both are names of one file already, the rename leaves both.
            with suppress(*_NO_SUCH_KEY):
                temporary.unlink()
        files.sync_folder(path.parent)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Read a file, or the range of it."""
        try:
            return self._get(key, start or 0, end)
        except OSError as error:
            # Another machine replaced the file while this one was reading it over NFS.
            if error.errno != errno.ESTALE:
                raise
            return self._get(key, start or 0, end)

    def reader(self, key: str) -> IO[bytes]:
        """Open the file."""
        folder, name = self._open_folder(key)
        try:
            return open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=folder))
        finally:
            os.close(folder)

    def list(self, prefix: str, after: str | None = None) -> Sequence[str]:
        """Walk through the folders, and leave out temporary files."""
        keys = (key for key, entry in self._walk(prefix) if not files.is_temporary(entry.name))
        return sorted(key for key in keys if after is None or key > after)

    def scan(self, prefix: str) -> Iterator[Found]:
        """Walk through the folders, and leave out temporary files."""
        for key, entry in self._walk(prefix):
            with suppress(*_NO_SUCH_KEY):
                if not files.is_temporary(entry.name):
                    found = entry.stat()
                    yield Found(key, found.st_size, found.st_mtime)

    def list_folders(self, prefix: str) -> Sequence[str]:
        """Look at the entries of a folder."""
        check_prefix(prefix)
        with suppress(*_NO_SUCH_KEY), os.scandir(f"{self._root}/{prefix}") as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
        return []

    def stat(self, key: str) -> Stat | None:
        """Look at a file; its version is made of its time, size and inode."""
        try:
            folder, name = self._open_folder(key)
            try:
                found = os.stat(name, dir_fd=folder)
            finally:
                os.close(folder)
        except _NO_SUCH_KEY:
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        version = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
        return Stat(found.st_size, version, found.st_mtime)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; their folders stay."""
        for key in keys:
            with suppress(*_NO_SUCH_KEY):
                self._path(key).unlink()

    def delete_folder(self, prefix: str) -> None:
        """Remove the folder; what somebody writes meanwhile stays."""
        check_prefix(prefix)
        shutil.rmtree(f"{self._root}/{prefix}", onerror=_raise_unless_in_use)

    def new_upload(self, key: str) -> str:
        """Create an empty temporary file; its name is that of the upload."""
        temporary = files.temporary_name(self._path(key))
        _make_folder_if_missing(temporary.parent, lambda: temporary.touch(exist_ok=False))
        return temporary.name

    @contextmanager
    def writer(self, key: str, upload: str | None = None) -> Iterator[IO[bytes]]:
        """Write into the temporary file, and rename it."""
        path = self._path(key)
        temporary = self._upload_path(key, self.new_upload(key) if upload is None else upload)
        try:
            with files.EarlyFile(temporary, "r+b") as out:
                yield out
            _rename_durably(temporary, path)
        except BaseException as error:
            # A revoked file that is still open may answer with any error over NFS.
            is_revoked = isinstance(error, OSError) and upload is not None and self._is_gone(key, upload)
            with suppress(OSError):
                temporary.unlink()
            if is_revoked:
                raise superseded(key) from error
            raise
        files.sync_folder(path.parent)

    def revoke(self, key: str, upload: str) -> None:
        """Remove the temporary file."""
        with suppress(*_NO_SUCH_KEY):
            self._upload_path(key, upload).unlink()

    def find_unfinished(self, prefix: str, before: float, *, is_recursive: bool) -> Iterator[Unfinished]:
        """Look for temporary files."""
        for key, entry in self._walk(prefix, is_recursive=is_recursive):
            with suppress(*_NO_SUCH_KEY):
                if files.is_temporary(entry.name) and (found := entry.stat()).st_mtime < before:
                    yield Unfinished(key, entry.name, found.st_size, found.st_mtime)

    def discard(self, unfinished: Unfinished) -> None:
        """Remove the temporary file."""
        with suppress(*_NO_SUCH_KEY):
            Path(self._root, unfinished.key).unlink()

    def _walk(self, prefix: str, *, is_recursive: bool = True) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield all files below a prefix: their paths, and what their folders know of them."""
        check_prefix(prefix)
        folders = [prefix]
        while folders:
            folder = folders.pop()
            with suppress(*_NO_SUCH_KEY), os.scandir(f"{self._root}/{folder}") as entries:
                for entry in entries:
                    if not entry.is_dir():
                        yield f"{folder}{entry.name}", entry
                    elif is_recursive:
                        folders.append(f"{folder}{entry.name}/")

    def _path(self, key: str) -> Path:
        check_key(key)
        return Path(self._root, key)

    def _upload_path(self, key: str, upload: str) -> Path:
        if "/" in upload or not files.is_temporary(upload):
            raise ValueError(f"{upload!r} is not the name of an upload")
        return self._path(key).with_name(upload)

    def _is_gone(self, key: str, upload: str) -> bool:
        folder, _ = self._open_folder(key)
        try:
            os.stat(upload, dir_fd=folder)
        except FileNotFoundError:
            return True
        finally:
            os.close(folder)
        return False

    def _get(self, key: str, start: int, end: int | None) -> bytes | None:
        try:
            folder, name = self._open_folder(key)
            try:
                with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
                    file.seek(start)
                    return file.read(None if end is None else max(0, end - start))
            finally:
                os.close(folder)
        except _NO_SUCH_KEY:
            return None

    def _open_folder(self, key: str) -> tuple[int, str]:
        """
        Open the folder of a key, and return its descriptor and the name of the file in it.

        NFS may answer from a cache that there is no such file; opening the folder makes it ask the server if the folder
        has changed.
        """
        check_key(key)
        folder, _, name = key.rpartition("/")
        return os.open(f"{self._root}/{folder}", os.O_RDONLY | os.O_DIRECTORY), name


def _make_folder_if_missing(folder: Path, write: Callable[[], _Written]) -> _Written:
    try:
        return write()
    except FileNotFoundError:
        files.make_folder(folder)
        return write()


def _raise_unless_in_use(_function: object, _path: object, failed: tuple[object, BaseException, object]) -> None:
    error = failed[1]
    is_in_use = isinstance(error, OSError) and error.errno in {errno.ENOTEMPTY, errno.EEXIST}
    if not is_in_use and not isinstance(error, _NO_SUCH_KEY):
        raise error


def _rename_durably(temporary: Path, path: Path) -> None:
    descriptor = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(descriptor)
        try:
            temporary.replace(path)
        except OSError:
            # NFS also answers "missing" if it repeats a request whose first answer was lost.
            if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
                raise
    finally:
        os.close(descriptor)
