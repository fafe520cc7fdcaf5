"""The files that worker processes append rows to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from airflow_prs.store.files import sync_file, sync_folder


class RowsFiles:
    """
    The rows files of one writer, to which its worker processes append.

    :param path: returns the path of the rows file of a worker process.
    """

    def __init__(self, path: Callable[[int], Path]) -> None:
        self.path = path
        self._durable: set[Path] = set()

    def sync(self, processes: Iterable[int]) -> None:
        """Make everything durable that some worker processes have written."""
        for process in processes:
            path = self.path(process)
            sync_file(path)
            if path not in self._durable:
                sync_folder(path.parent)
                self._durable.add(path)
