"""Files that appear atomically and durably."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_EARLY_BYTES = 4 << 20

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp", re.DOTALL)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    _sync(path, os.O_RDONLY)


def sync_file(path: Path) -> None:
    """Make everything durable that any process has written to a file."""
    _sync(path, os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """
    Make a folder and its parents durably.

    :raises FileExistsError: if a file has that name.
    """
    missing = [path, *path.parents]
    missing = [folder for folder in missing if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def temporary_name(path: Path) -> Path:
    """Return a path in the same folder that no other writer uses; its name has at most 255 bytes."""
    return path.with_name(f".{path.name[:50]}.{uuid4().hex}.tmp")  # 50 characters have at most 200 bytes


def is_temporary(name: str) -> bool:
    """Return whether this is a file name from ``temporary_name``."""
    return name.endswith(".tmp") and _TEMPORARY.fullmatch(name) is not None


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """
    Write a file atomically and durably: temporary file, fsync, rename, fsync of the folder.

    :param write: writes the file at the path that it gets.
    """
    temporary = temporary_name(path)
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file atomically and durably."""
    publish(path, lambda temporary: temporary.write_bytes(data))


def write_once(path: Path, data: bytes) -> bool:
    """
    Write a small file atomically and durably, unless one of that name exists.

    :return: whether this call wrote it.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


class EarlyFile(io.BufferedWriter):
    """
    A new file that the disk starts to write before it is complete, so that fsync at the end takes little time.

    :param path: the file.
    :param mode: "wb" replaces an existing file; "r+b" writes into one, which must exist.
    """

    def __init__(self, path: Path, mode: str = "wb") -> None:
        super().__init__(io.FileIO(path, mode))
        self._begun = 0

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Write data, and start to write it to the disk every few MiB."""
        written = super().write(buffer)
        end = self.tell()
        if end - self._begun >= _EARLY_BYTES:
            # Linux starts to write dirty pages, and drops only clean pages, of which there are none yet. A file system
            # may refuse the advice.
            with suppress(OSError):
                os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
        return written
