"""Reads what run folders show now, for all users together."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

from airflow_prs.errors import PrsError
from airflow_prs.live.actions import describe_actions
from airflow_prs.live.failures import FailurePage, read_failures
from airflow_prs.live.keeping import Kept
from airflow_prs.live.results import read_head
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.live.storage_threads import StorageThreads, UnreadableError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.task_log import History, TaskLog
from airflow_prs.steering.clearing import States
from airflow_prs.steering.orders import changes, newest_abort

_T = TypeVar("_T")

_MOST_PAGES: Final = 8
_TROUBLE: Final = (OSError, PrsError, ValueError, KeyError, TypeError, ImportError)


class RunReader:
    """
    Reads a run folder again and again.

    :param path: of the run folder.
    :param execution: number of the execution of plan.
    :param connect: called with the path before it is first read, and again after it could not be read.
    :param threads: in which it is read.
    """

    def __init__(self, path: str, execution: int, *, connect: Callable[[str], None], threads: StorageThreads) -> None:
        self._threads = threads
        self._source = _SnapshotReader(path, execution, connect)
        self._snapshot = Kept(self._source.read, threads)
        self._page: Callable[[int, int], Kept[FailurePage]] = lru_cache(_MOST_PAGES)(
            lambda *place: Kept(partial(self._read_page, *place), threads)
        )
        self._actions: tuple[Any, Kept[dict[str, Any]]] | None = None

    def read(self, deadline: float | None = None) -> Snapshot:
        """
        Return what the folder shows.

        :param deadline: until when to wait for storage, see Kept.get.
        :raises UnreadableError: if it cannot be read; the message says why.
        """
        return _readable(self._snapshot, deadline)

    def failures(self, offset: int, limit: int, deadline: float | None = None) -> FailurePage:
        """
        Return a page of the failed mini-batches.

        :param offset: how many to leave out.
        :param limit: how many to return at most.
        :param deadline: see read.
        :raises UnreadableError: if they cannot be read; the message says why.
        """
        self.read(deadline)
        return _readable(self._page(offset, limit), deadline)

    def actions(
        self, step: str, states: States, clear_number: int | None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Return what can be done with the run now; see describe_actions.

        :param deadline: see read.
        :raises UnreadableError: if the run folder cannot be read; the message says why.
        """
        known = (states, clear_number)
        # Another request may replace or remove it meanwhile.
        kept = self._actions
        if kept is None or kept[0] != known:
            folder = self.read(deadline).folder
            ask = partial(describe_actions, folder, step, states, clear_number=clear_number)
            self._actions = kept = known, Kept(ask, self._threads)
        return _readable(kept[1], deadline)

    def _read_page(self, offset: int, limit: int) -> FailurePage:
        return read_failures(self._source.newest(), offset, limit)

    def expire(self) -> None:
        """Read everything again at the next request: the run was changed."""
        self._snapshot.expire()
        self._actions = None


class _SnapshotReader:
    """
    Takes snapshots of a run folder; of its logs, it reads what is new.

    :param path: of the run folder.
    :param execution: number of the execution of plan.
    :param connect: called with the path before it is first read, and again after it could not be read.
    """

    def __init__(self, path: str, execution: int, connect: Callable[[str], None]) -> None:
        self._path = path
        self._execution = execution
        self._connect = connect
        self._opened: tuple[RunFolder, TaskLog, RunLog] | None = None
        self._newest: Snapshot | None = None

    def newest(self) -> Snapshot:
        """Return the newest snapshot; take one if there is none."""
        return self._newest or self.read()

    def read(self) -> Snapshot:
        """Take a snapshot; for one thread at a time."""
        try:
            self._newest = _take(*(self._opened or self._open()))
        except Exception:
            self._opened = None
            raise
        return self._newest

    def _open(self) -> tuple[RunFolder, TaskLog, RunLog]:
        self._connect(self._path)
        folder = RunFolder(self._path, self._execution)
        self._opened = folder, folder.open_task_log(), folder.run_log()
        return self._opened


def _take(folder: RunFolder, task_log: TaskLog, run_log: RunLog) -> Snapshot:
    # They never change, but what is missing from a folder that is not seen at all looks like a run that has not begun.
    planned = folder.read_planned_settings()
    run_log.follow()
    history = History(task_log.read())
    settings, report = folder.under_newest_terms(planned, history, run_log), folder.read_report()
    return Snapshot(
        folder=folder,
        settings=settings,
        history=history,
        changes=tuple(changes(run_log.records, planned.config.limits)),
        abort=newest_abort(folder, run_log, settings.config.node_count),
        status=folder.read_status(),
        report=report,
        head=read_head(folder, (report or {}).get("result")),
    )


def _readable(kept: Kept[_T], deadline: float | None) -> _T:
    try:
        return kept.get(deadline)
    except _TROUBLE as error:
        raise UnreadableError(str(error)) from error
