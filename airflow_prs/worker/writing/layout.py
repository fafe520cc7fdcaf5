"""The layout that the rows of all mini-batches of a run share; the first process that has rows writes it."""

from __future__ import annotations

import os
import uuid


class Layout:
    """
    A small record that all worker processes of a run share. Each revision is written once, by the fastest process.

    :param folder: folder of the revisions, numbered from 0, on storage that all nodes see; it is made when needed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._next = 0
        self._newest: bytes | None = None

    @property
    def is_known(self) -> bool:
        """Whether this process has read a revision."""
        return self._newest is not None

    def newest(self) -> bytes | None:
        """Return the newest revision; None: there is none yet."""
        while True:
            try:
                with open(self._path(self._next), "rb") as file:
                    self._newest = file.read()
            except FileNotFoundError:
                return self._newest
            self._next += 1

    def propose(self, content: bytes) -> None:
        """Write the next revision durably; if another process was faster, its revision stays."""
        os.makedirs(self._folder, exist_ok=True)
        temporary = os.path.join(self._folder, f".{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, self._path(self._next))
        except FileExistsError:
            return
        finally:
            os.unlink(temporary)
        for folder in (self._folder, os.path.dirname(self._folder)):
            _sync(folder)

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{number:06d}")


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
