"""One local file, made from ranges of an object in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from airflow_prs.errors import StagingError
from airflow_prs.node.input.fetching import PART_BYTES, Fetcher, LocalFile
from airflow_prs.node.input.parts import Frame, Range
from airflow_prs.node.input.remote_file import RemoteFile

Contents = tuple[Frame, Sequence[Range] | None]
"""What is written without a request, and the ranges to read; None: the entire object in one request."""


class Download:
    """
    Makes a local file.

    :param file: the object.
    :param path: of the local file.
    :param urgency: see Fetcher.submit.
    :param find_contents: called in a thread; may send requests.
    :param is_wanted: whether the file is still wanted.
    :param on_end: called in a thread when nothing writes to the file any more, with the reason if it could not be made.
    :param on_read: called in a thread with the number of bytes of each read.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        file: RemoteFile,
        path: str,
        *,
        urgency: int,
        find_contents: Callable[[], Contents],
        is_wanted: Callable[[], bool],
        on_end: Callable[[str], None],
        on_read: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._fetcher = fetcher
        self._file = file
        self._path = path
        self._urgency = urgency
        self._find_contents = find_contents
        self._is_wanted = is_wanted
        self._on_read = on_read
        self._on_end = on_end
        self._lock = threading.Lock()
        self._local: LocalFile | None = None
        self._left = 1
        self._error = ""

    def begin(self) -> None:
        """Queue what is to be done."""
        self._fetcher.submit(self._urgency, partial(self._attempt, self._begin))

    def _begin(self) -> None:
        frame, ranges = self._find_contents()
        local = self._local = LocalFile(self._path, frame.size)
        for begin, data in frame.known:
            local.write(begin, data)
        if ranges is None:
            self._copy(local, 0, self._file.read())
            return
        parts = [
            (start, min(end, start + PART_BYTES)) for begin, end in ranges for start in range(begin, end, PART_BYTES)
        ]
        self._left += max(0, len(parts) - 1)
        for part in parts[1:]:
            self._fetcher.submit(self._urgency, partial(self._attempt, partial(self._fetch, local, *part)))
        for part in parts[:1]:
            self._fetch(local, *part)

    def _fetch(self, local: LocalFile, begin: int, end: int) -> None:
        self._copy(local, begin, self._file.read(begin, end))

    def _copy(self, local: LocalFile, begin: int, data: Any) -> None:
        self._on_read(len(data))
        local.write(begin, data)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            if not self._error and self._is_wanted():
                step()
        except StagingError as error:
            self._error = str(error)
        except (FileExistsError, NotADirectoryError):
            self._error = (
                f"{self._file.address}: this key cannot be a local path: a path cannot be both file and folder, and "
                "another object of the mini-batch has a key that continues this one, or that this one continues"
            )
        except OSError as error:
            self._error = f"{self._file.address}: its local copy cannot be written: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, a mini-batch waits for the end
            self._error = f"{self._file.address}: its local copy cannot be made: {type(error).__name__}: {error}"
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            if self._local is not None:
                self._local.close()
            self._on_end(self._error)
