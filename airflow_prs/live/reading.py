"""Reads what run folders show now, for all users together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from airflow_prs.errors import PrsError
from airflow_prs.live.actions import describe_actions
from airflow_prs.live.failures import FailurePage, read_failures
from airflow_prs.live.keeping import Kept
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.task_log import History, TaskLog
from airflow_prs.steering.clearing import States
from airflow_prs.steering.orders import changes, newest_abort

_T = TypeVar("_T")

_MOST_RUNS: Final = 128
_MOST_PAGES: Final = 8
_TROUBLE: Final = (OSError, PrsError, ValueError, KeyError, TypeError, ImportError)


class UnreadableError(Exception):
    """This machine cannot read a run folder."""


class RunReader:
    """
    Reads a run folder again and again.

    :param path: of the run folder.
    :param execution: number of the execution of plan.
    :param connect: called with the path before it is first read, and again after it could not be read.
    """

    def __init__(self, path: str, execution: int, connect: Callable[[str], None]) -> None:
        self._path = path
        self._execution = execution
        self._connect = connect
        self._logs: tuple[RunFolder, TaskLog, RunLog] | None = None
        self._snapshot = Kept(self._read)
        self._pages: OrderedDict[tuple[int, int], Kept[FailurePage]] = OrderedDict()
        self._actions: tuple[Any, Kept[dict[str, Any]]] | None = None

    def read(self) -> Snapshot:
        """
        Return what the folder shows.

        :raises UnreadableError: if it cannot be read; the message says why.
        """
        return _readable(self._snapshot)

    def failures(self, offset: int, limit: int) -> FailurePage:
        """
        Return a page of the failed mini-batches.

        :param offset: how many to leave out.
        :param limit: how many to return at most.
        :raises UnreadableError: if they cannot be read; the message says why.
        """
        place = (offset, limit)
        kept = self._pages.get(place) or Kept(lambda: read_failures(self.read(), offset, limit))
        self._pages[place] = kept
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return _readable(kept)

    def actions(self, step: str, states: States, clear_number: int | None) -> dict[str, Any]:
        """
        Return what can be done with the run now; see describe_actions.

        :raises UnreadableError: if the run folder cannot be read; the message says why.
        """
        known = (states, clear_number)
        # Another request may replace or remove it meanwhile.
        kept = self._actions
        if kept is None or kept[0] != known:
            kept = known, Kept(partial(self._describe_actions, step, states, clear_number))
            self._actions = kept
        return _readable(kept[1])

    def _describe_actions(self, step: str, states: States, clear_number: int | None) -> dict[str, Any]:
        return describe_actions(self.read().folder, step, states, clear_number=clear_number)

    def expire(self) -> None:
        """Read everything again at the next request: the run was changed."""
        self._snapshot.expire()
        self._actions = None

    def _read(self) -> Snapshot:
        try:
            return self._read_from(*self._open())
        except _TROUBLE:
            self._logs = None
            raise

    def _open(self) -> tuple[RunFolder, TaskLog, RunLog]:
        if self._logs is None:
            self._connect(self._path)
            folder = RunFolder(self._path, self._execution)
            self._logs = folder, folder.open_task_log(), folder.run_log()
        return self._logs

    def _read_from(self, folder: RunFolder, task_log: TaskLog, run_log: RunLog) -> Snapshot:
        run_log.follow()
        records = run_log.records
        return Snapshot(
            folder=folder,
            settings=folder.read_settings(),
            history=History(task_log.read()),
            changes=tuple(changes(folder)) if records else (),
            abort=newest_abort(folder) if any(record.abort is not None for record in records) else None,
            status=folder.read_status(),
            report=folder.read_report(),
        )


class RunReaders:
    """
    The readers of the runs that somebody has looked at lately.

    :param connect: see RunReader.
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
        """
        with self._lock:
            reader = self._readers.pop((path, execution), None) or RunReader(path, execution, self._connect)
            self._readers[path, execution] = reader
            while len(self._readers) > _MOST_RUNS:
                self._readers.popitem(last=False)
            return reader


def _readable(kept: Kept[_T]) -> _T:
    try:
        return kept.get()
    except _TROUBLE as error:
        raise UnreadableError(str(error)) from error
