"""Reads what a run folder shows now, for all users together: a read serves every request of the next seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunRecord
from airflow_prs.run_folder.task_log import History
from airflow_prs.settings import RunSettings

_FRESH_S: Final = 1.5
_MOST_RUNS: Final = 128
_MANY_FAILURES: Final = (OSError, RunFolderError, ValueError, KeyError, TypeError, ImportError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    What a run folder shows at one time.

    :param settings: under the newest terms and limits.
    :param history: the task log.
    :param records: the run log.
    :param status: content of status.json; None: no node has begun.
    :param report: content of report.json; None: the run has never ended.
    """

    folder: RunFolder
    settings: RunSettings
    history: History
    records: tuple[RunRecord, ...]
    status: dict[str, Any] | None
    report: dict[str, Any] | None


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
