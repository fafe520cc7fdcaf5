"""Files that appear whole, and appends that last."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_EARLY_BYTES = 4 << 20


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """
    Make a folder and its parents, durably.

    :raises FileExistsError: if a file of that name is in the way.
    """
    missing = [path, *path.parents]
    missing = [folder for folder in missing if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def temporary_name(path: Path) -> Path:
    """Name beside a file that no other writer uses; 50 characters are at most 200 of the 255 bytes of a name."""
    return path.with_name(f".{path.name[:50]}.{uuid4().hex}.tmp")


def publish(path: Path, write: Callable[[Path], None], temporary: Path | None = None) -> None:
    """
    Let a file appear under its name whole or not at all: temporary name, fsync, rename, fsync of the folder.

    :param write: writes the file at the path that it is given.
    :param temporary: that path, in the same folder; None: one that no other writer uses.
    """
    temporary = temporary or temporary_name(path)
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make what any process has written to a file durable."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file that is seen whole or not at all."""
    publish(path, lambda temporary: _write_bytes(temporary, data))


def write_once(path: Path, data: bytes) -> bool:
    """
    Write a small file unless one of that name exists, whole or not at all.

    :return: whether it was written now.
    """
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(data)
        sync_file(temporary)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


class EarlyFile(io.BufferedWriter):
    """
    A new file that is on its way to the disk while it is written, so that fsync finds little left to do.

    :param path: what stood there is replaced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._begun = 0

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Write, and let the disk begin with what has gathered."""
        written = super().write(buffer)
        end = self.tell()
        if end - self._begun >= _EARLY_BYTES:
            # Linux begins to write what is dirty, and forgets only what is clean, which is nothing yet. Being advice,
            # it may be refused.
            with suppress(OSError):
                os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
        return written


class Appender:
    """
    A file that this process alone appends to.

    :param path: created if missing.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.size = self._file.tell()

    def append(self, data: bytes) -> None:
        """Append durably."""
        view = memoryview(data)
        while view:
            written = self._file.write(view) or 0
            view = view[written:]
            self.size += written
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_tail(path: Path, end: int | None, size: int) -> tuple[bytes, int]:
    """
    Read the last bytes before a position.

    :param end: the position; None: the end of the file.
    :param size: how many bytes at most.
    :return: the bytes and the position where they start; nothing for a missing file.
    """
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            stop = length if end is None else min(end, length)
            start = max(0, stop - size)
            file.seek(start)
            return file.read(stop - start), start
    except FileNotFoundError:
        return b"", 0
