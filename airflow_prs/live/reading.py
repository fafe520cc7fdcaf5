"""Reads what a run folder shows now, for all users together: a read serves every request of the next seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from airflow_prs.errors import RunFolderError
from airflow_prs.live.failures import FailurePage, read_failures
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.run_folder.folder import RunFolder

_FRESH_S: Final = 1.5
_MOST_RUNS: Final = 128
_MOST_PAGES: Final = 8
_MANY: Final = 50_000
"""To find the failures of a run with more mini-batches takes so long that they are read more rarely."""
_MANY_FAILURES: Final = (OSError, RunFolderError, ValueError, KeyError, TypeError, ImportError)


class UnreadableError(Exception):
    """This machine cannot read a run folder."""


class RunReader:
    """
    Reads a run folder again and again.

    :param path: of the run folder.
    :param execution: number of the execution of plan.
    """

    def __init__(self, path: str, execution: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = RunFolder(path, execution)
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._snapshot: Snapshot | None = None
        self._problem: Exception | None = None
        self._task_log = self.folder.open_task_log()
        self._run_log = self.folder.run_log()
        self._pages: dict[tuple[int, int], tuple[float, FailurePage]] = {}

    def read(self) -> Snapshot:
        """
        Return what the folder shows, as of a moment ago at most.

        :raises UnreadableError: if it cannot be read; the message says why.
        """
        with self._lock:
            if self._clock() - self._read_at > _FRESH_S:
                self._refresh()
                self._read_at = self._clock()
            if self._snapshot is None:
                raise UnreadableError(str(self._problem)) from self._problem
            return self._snapshot

    def failures(self, offset: int, limit: int) -> FailurePage:
        """
        Return a page of the failed mini-batches, in large runs as of up to half a minute ago.

        :param offset: how many to leave out.
        :param limit: how many to return at most.
        :raises UnreadableError: if they cannot be read; the message says why.
        """
        snapshot, place = self.read(), (offset, limit)
        total = snapshot.status["progress"]["total"] if snapshot.status is not None else 0
        fresh_s = _FRESH_S * max(1, total / _MANY)
        with self._lock:
            read_at, page = self._pages.get(place, (float("-inf"), None))
            if page is not None and self._clock() - read_at <= fresh_s:
                return page
            try:
                page = read_failures(snapshot, offset, limit)
            except _MANY_FAILURES as error:
                raise UnreadableError(str(error)) from error
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()
            self._pages[place] = self._clock(), page
            return page

    def expire(self) -> None:
        """Read again at the next request: the run was changed."""
        self._read_at = float("-inf")

    def _refresh(self) -> None:
        self._snapshot = None
        try:
            self._run_log.follow()
            self._snapshot = Snapshot(
                folder=self.folder,
                settings=self.folder.read_settings(),
                history=self._task_log.read(),
                records=tuple(self._run_log.records),
                status=self.folder.read_status(),
                report=self.folder.read_report(),
            )
        except _MANY_FAILURES as error:
            self._problem = error


class RunReaders:
    """
    The readers of the runs that somebody has looked at lately.

    :param connect: called with the location of a run folder before it is first read.
    """

    def __init__(self, connect: Callable[[str], None]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._readers: OrderedDict[tuple[str, int], RunReader] = OrderedDict()

    def of(self, path: str, execution: int) -> RunReader:
        """
        Return the reader of a run folder.

        :param path: of the run folder.
        :param execution: number of the execution of plan.
        :raises UnreadableError: if this machine cannot connect to its storage.
        """
        with self._lock:
            known = self._readers.get((path, execution))
        reader = known or self._open(path, execution)
        with self._lock:
            reader = self._readers.pop((path, execution), reader)
            self._readers[path, execution] = reader
            while len(self._readers) > _MOST_RUNS:
                self._readers.popitem(last=False)
            return reader

    def _open(self, path: str, execution: int) -> RunReader:
        try:
            self._connect(path)
            return RunReader(path, execution)
        except _MANY_FAILURES as error:
            raise UnreadableError(str(error)) from error
