"""The local folders of a node: the code that it runs and a working directory for each worker process."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

_PERMISSIONS_SHIFT = 16


class Stage:
    """
    A node's private folder, on local disk.

    :param source_zip: the snapshot of the user's code.
    """

    def __init__(self, source_zip: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="airflow_prs-"))
        self.source = self.path / "source"
        _extract(source_zip, self.source)

    def working_directory(self, process: str) -> Path:
        """Make a worker process's working directory, a copy of the snapshot."""
        directory = self.path / "work" / process
        shutil.copytree(self.source, directory, symlinks=True)
        return directory

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)


def _extract(source_zip: Path, target: Path) -> None:
    target.mkdir()
    with zipfile.ZipFile(source_zip) as archive:
        for entry in archive.infolist():
            extracted = archive.extract(entry, target)
            permissions = entry.external_attr >> _PERMISSIONS_SHIFT & 0o777
            if permissions and not entry.is_dir():
                Path(extracted).chmod(permissions)
