"""The local folders of a node: the code that it runs and a working directory for each worker process."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TextIO

_PREFIX = "airflow_prs-node-"
_LOCK = "lock"
_PERMISSIONS_SHIFT = 16


class Stage:
    """
    The private folder of a node, on local disk. Folders that killed nodes have left are removed first.

    :ivar source: folder of the user's code.
    :ivar input: folder of local copies of the input; it exists if there are any.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _hold(self.path)
        self.source = self.path / "source"
        self.input = self.path / "input"

    def extract(self, source_zip: IO[bytes]) -> None:
        """Extract the snapshot of the user's code."""
        with source_zip:
            _extract(source_zip, self.source)

    def working_directory(self, process: str) -> Path:
        """Create the working directory of a worker process, a copy of the snapshot, and return its path."""
        directory = self.path / "work" / process
        shutil.copytree(self.source, directory, symlinks=True)
        return directory

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_abandoned() -> None:
    """Remove the folders of killed nodes on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Errors: a folder of another user, one in use, or one without a lock yet.
        with suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path) -> TextIO:
    """Lock a folder as long as this process lives. The lock file is locked before it gets its name."""
    unseen = folder / f"{_LOCK}.new"
    lock = unseen.open("w")
    # On storage without locks, no folder can be recognised as abandoned.
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
        unseen.rename(folder / _LOCK)
    return lock


def _extract(source_zip: IO[bytes], target: Path) -> None:
    target.mkdir()
    with zipfile.ZipFile(source_zip) as archive:
        for entry in archive.infolist():
            extracted = archive.extract(entry, target)
            permissions = entry.external_attr >> _PERMISSIONS_SHIFT & 0o777
            if permissions and not entry.is_dir():
                Path(extracted).chmod(permissions)
