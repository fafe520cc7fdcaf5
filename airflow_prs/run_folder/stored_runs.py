"""The runs below an output, as far as a few small reads of each tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from airflow_prs.errors import RunFolderError
from airflow_prs.object_storage.addresses import Address
from airflow_prs.records import RUNS
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.names import CUT, TASK_LOG
from airflow_prs.run_folder.task_log import Execution, History, TaskLog
from airflow_prs.store.opening import Location, location_of, open_store

_LEVELS: Final = 3
"""Folders above those of a run's work: of the DAG, the run and the task."""

_QUIET_S: Final = 120.0
"""A run whose status.json is older than this is not running: nodes write it every few seconds."""


class RunState(Enum):
    """What a stored run is."""

    NOT_PLANNED = "not planned"
    PLANNED = "planned"
    RUNNING = "running"
    STOPPED = "stopped"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    REMOVING = "partly removed"
    UNREADABLE = "unreadable"

    @property
    def has_ended(self) -> bool:
        """Whether the run goes on only if somebody clears it."""
        return self in {RunState.COMPLETED, RunState.ABORTED, RunState.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """
    A run of a task, as an output holds it.

    :param path: its folder, with the task log and the run folders of its plans.
    :param place: the names of the folders of the DAG, the run and the task.
    :param records: how many records its task log has.
    :param planned: when plan last ended, in seconds since the epoch; 0: it never has.
    :param total: number of its mini-batches; None: not known.
    :param done: how many of them have succeeded or failed for good.
    :param failed: how many of them have failed for good.
    :param is_published: whether its newest work has published a result.
    :param problem: why it cannot be read; '': it can.
    """

    path: Location
    place: tuple[str, ...]
    dag_id: str
    run_id: str
    task_id: str
    state: RunState
    records: int = 0
    planned: float = 0.0
    total: int | None = None
    done: int = 0
    failed: int = 0
    is_published: bool = False
    problem: str = ""


def stored_runs(output: str | os.PathLike[str] | Address) -> list[StoredRun]:
    """
    Return the runs below an output, those planned last at the end.

    :raises RunFolderError: if there are none.
    """
    root = location_of(output) / RUNS
    places: list[tuple[str, ...]] = [()]
    with ThreadPoolExecutor(RunFolder(root).intervals.requests, thread_name_prefix="airflow_prs-runs") as threads:
        for _ in range(_LEVELS):
            names = threads.map(lambda place: open_store(_join(root, place)).list_folders(""), places)
            places = [(*place, name) for place, of_place in zip(places, names, strict=True) for name in of_place]
        found = [run for run in threads.map(partial(_read_run, root), places) if run is not None]
    if not found:
        raise RunFolderError(f"{output} holds no runs; allowed: the output folder of a job, in which there is {RUNS}")
    return sorted(found, key=lambda run: (run.planned, str(run.path)))


def plans_of(run: StoredRun) -> list[str]:
    """Return the names of the run folders of a run."""
    return [name for name in open_store(run.path).list_folders("") if name != TASK_LOG]


def _join(root: Location, place: tuple[str, ...]) -> Location:
    for name in place:
        root /= name
    return root


def _read_run(root: Location, place: tuple[str, ...]) -> StoredRun | None:
    """Return a run; None: its folder is empty."""
    path = _join(root, place)
    dag_id, run_id, task_id = map(unquote, place)
    known: dict[str, Any] = {"path": path, "place": place, "dag_id": dag_id, "run_id": run_id, "task_id": task_id}
    try:
        store = open_store(path)
        history = TaskLog(store, f"{TASK_LOG}/").read()
        if not history:
            if next(store.scan(""), None) is None:
                return None
            records = store.list(f"{TASK_LOG}/")
            if records and records[0] != Log(store, f"{TASK_LOG}/").key(0):
                return StoredRun(**known, state=RunState.REMOVING)
        known["records"] = len(history)
        return StoredRun(**known | _describe(path, history, is_cut=any(CUT in name for name in place)))
    except (RunFolderError, ValueError, KeyError, TypeError) as error:
        problem = str(error) if isinstance(error, RunFolderError) else f"{type(error).__name__}: {error}"
        return StoredRun(**known, state=RunState.UNREADABLE, problem=problem)


def _describe(path: Location, history: History, *, is_cut: bool) -> dict[str, Any]:
    if history.is_being_removed:
        return {"state": RunState.REMOVING}
    newest = history.newest_execution()
    if newest is None:
        return {"state": RunState.NOT_PLANNED}
    execution: Execution = history.execution(newest)
    folder = RunFolder(path / execution.folder, newest)
    described: dict[str, Any] = {
        "planned": execution.at,
        "is_published": history.newest_published(execution.folder) is not None,
    }
    if is_cut:
        identity = folder.read_planned_settings().identity
        described |= {"dag_id": identity.dag_id, "run_id": identity.run_id, "task_id": identity.task_id}
    return described | _read_state(folder)


def _read_state(folder: RunFolder) -> dict[str, Any]:
    """Return the state and the progress, from the report of its end and the newest status of its nodes."""
    report, status = folder.read_report(), folder.read_status()
    is_running = status is not None and status["shards"].get("running", 0) > 0
    if report is not None and (not is_running or status is None or report.get("at", 0.0) >= status["at"]):
        counts = report.get("mini_batches") or {"total": None, "succeeded": 0, "failed": 0}
        return {"state": RunState(report["status"]), **_count(counts)}
    if status is None:
        return {"state": RunState.PLANNED, "total": folder.read_manifest().mini_batches}
    is_recent = is_running and time.time() - status["at"] < _QUIET_S
    return {"state": RunState.RUNNING if is_recent else RunState.STOPPED, **_count(status["progress"])}


def _count(counts: dict[str, Any]) -> dict[str, Any]:
    return {"total": counts["total"], "done": counts["succeeded"] + counts["failed"], "failed": counts["failed"]}


def reused_places(run: StoredRun) -> Iterator[tuple[str, ...]]:
    """
    Yield the places of the runs whose results a run reuses.

    A run folder that cannot be read reuses none. Outputs are not compared, since one has several addresses.
    """
    for plan in plans_of(run):
        try:
            reused_from = RunFolder(run.path / plan).read_planned_settings().reused_from
        except RunFolderError:
            continue
        if reused_from is not None:
            yield tuple(reused_from.split("/")[-_LEVELS - 1 : -1])
