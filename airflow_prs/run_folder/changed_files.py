"""Uploads the files of a local folder that have changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from airflow_prs.ahead import map_ahead
from airflow_prs.store.files import is_temporary
from airflow_prs.store.port import Store

_BYTES_PER_S = 1 << 20
_SHORTEST_S = 15.0
_CHUNK_BYTES = 8 << 20
_TOGETHER = 4
"""Files that are uploaded at the same time."""


class ChangedFiles:
    """
    The files below a local folder, and what was uploaded of them. A file has the same name in the store.

    Empty folders are left out, and so are temporary files of ours.

    :param store: gets the files.
    :param prefix: of their keys; it ends with `/`, or is empty.
    :param is_paced: whether a file that grows is uploaded again only after 15 seconds, and after one more for each
        MiB of it: an object cannot be appended to.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        prefix: str,
        *,
        is_paced: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix
        self._is_paced = is_paced
        self._clock = clock
        self._uploaded: dict[str, tuple[tuple[int, int, int], float]] = {}

    def upload(self, *, is_last: bool = False) -> None:
        """
        Upload the files that have changed since they were last uploaded, and delete those that are gone since.

        Nobody removes logs during a run but what cleans up temporary folders, so those that are gone stay uploaded.

        :param is_last: whether this is the last call, so that no file waits any more.
        """
        there, changed = set(), []
        for name, found in _walk(self._folder):
            there.add(name)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            before, at = self._uploaded.get(name, (None, 0.0))
            wait_s = 0.0 if before is None or is_last or not self._is_paced else _SHORTEST_S + before[1] / _BYTES_PER_S
            if state == before or self._clock() < at + wait_s:
                continue
            changed.append((name, state))
        with closing(map_ahead(lambda each: self._upload(*each), changed, threads=_TOGETHER)) as uploading:
            for _ in uploading:
                pass
        gone = [] if self._is_paced else [name for name in self._uploaded if name not in there]
        self._store.delete(self._prefix + name for name in gone)
        for name in gone:
            del self._uploaded[name]

    def _upload(self, name: str, state: tuple[int, int, int]) -> None:
        try:
            file = (self._folder / name).open("rb")
        except FileNotFoundError:  # a script has renamed or removed it
            return
        with file, self._store.writer(self._prefix + name) as out:
            shutil.copyfileobj(file, out, _CHUNK_BYTES)
        self._uploaded[name] = (state, self._clock())


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the relative path and the state of each file below a folder, sorted."""
    for directory, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            # A file may be gone by now, and a link may point nowhere.
            if not is_temporary(name) and path.is_file():
                with suppress(FileNotFoundError):
                    yield path.relative_to(folder).as_posix(), path.stat()
