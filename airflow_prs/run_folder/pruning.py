"""Remove old runs, and what uploads that were killed have left behind. Results are never removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from airflow_prs.errors import RunFolderError
from airflow_prs.object_storage.addresses import Address
from airflow_prs.records import RUNS
from airflow_prs.run_folder.names import SEEN, SETTINGS, TASK_LOG
from airflow_prs.run_folder.stored_runs import RunState, StoredRun, plans_of, reused_places
from airflow_prs.run_folder.task_log import TaskLog
from airflow_prs.store.opening import location_of, open_store

DAY_S: Final = 24 * 3600.0
HOUR_S: Final = 3600.0

_SCRATCH: Final = ("airflow_prs-plan-", "airflow_prs-check-")
"""What the names of local folders begin with that a killed process leaves behind."""

_BUSY_S: Final = HOUR_S
"""A run in which something has changed since is never removed: nodes, plan and merge write much more often."""

_WAITING_S: Final = DAY_S
"""The same for a run that has not ended: its tasks may be queued, or wait for a retry."""


class Candidate:
    """
    A run that may be removed. Its files are looked at once, when somebody asks for them.

    :param run: the run.
    """

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self._measured: tuple[float, int, int] | None = None

    @property
    def changed(self) -> float:
        """When a file of the run was last written, in seconds since the epoch; 0: there is none."""
        return self._measure()[0]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self._measure()[1]

    @property
    def files(self) -> int:
        """Number of its files."""
        return self._measure()[2]

    @property
    def has_seen_files(self) -> bool:
        """Whether it tells later runs which files are not new."""
        store = open_store(self.run.path)
        return any(store.list(f"{plan}/{SEEN}") for plan in plans_of(self.run))

    def reused(self) -> Iterable[tuple[str, ...]]:
        """Return the places of the runs whose results it reuses."""
        return reused_places(self.run)

    def _measure(self) -> tuple[float, int, int]:
        if self._measured is None:
            changed, size, files = 0.0, 0, 0
            for found in open_store(self.run.path).scan(""):
                changed, size, files = max(changed, found.modified), size + found.size, files + 1
            self._measured = changed, size, files
        return self._measured


def choose(candidates: Sequence[Candidate], *, older_than_s: float, keep: int, now: float) -> list[Candidate]:
    """
    Return the runs to remove.

    :param candidates: all runs of an output.
    :param older_than_s: seconds since the last change of a run, at least.
    :param keep: how many runs stay of each DAG and task: those that were planned last.
    :param now: seconds since the epoch.
    """
    stays = {*_newest(candidates, keep), *_last_completed(candidates)}
    chosen = [each for each in candidates if each not in stays and _is_old(each, older_than_s, now)]
    while True:
        kept = [each for each in candidates if each not in chosen]
        reused = {place for each in kept for place in each.reused()}
        left = [each for each in chosen if each.run.state is RunState.REMOVING or each.run.place not in reused]
        if len(left) == len(chosen):
            return chosen
        chosen = left


def _newest(candidates: Sequence[Candidate], keep: int) -> Collection[Candidate]:
    """Return the runs that were planned last, of each DAG and task."""
    found: dict[tuple[str, str], list[Candidate]] = {}
    for each in _newest_first(candidates):
        of_task = found.setdefault(_task(each), [])
        if each.run.planned and len(of_task) < keep:
            of_task.append(each)
    return {each for of_task in found.values() for each in of_task}


def _last_completed(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """Yield the last completed run of each DAG and task, if the next run needs it for only_new."""
    found: dict[tuple[str, str], Candidate] = {}
    for each in _newest_first(candidates):
        if each.run.state is RunState.COMPLETED:
            found.setdefault(_task(each), each)
    return (each for each in found.values() if each.has_seen_files)


def _newest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: (each.run.planned, str(each.run.path)), reverse=True)


def _task(candidate: Candidate) -> tuple[str, str]:
    return candidate.run.place[0], candidate.run.place[2]


def _is_old(candidate: Candidate, older_than_s: float, now: float) -> bool:
    state = candidate.run.state
    if state in {RunState.REMOVING, RunState.UNREADABLE}:
        return state is RunState.REMOVING
    least_s = max(older_than_s, _BUSY_S if state.has_ended else _WAITING_S)
    return now - candidate.changed >= least_s


def remove(candidate: Candidate) -> None:
    """
    Remove a run.

    A record in its task log comes first: from then on neither plan nor merge goes on, and whoever prunes next finishes
    what was begun. The settings come second: without them, nobody reads a run folder. The task log comes last.

    :raises RunFolderError: if something has changed in the run since it was chosen.
    """
    run = candidate.run
    store = open_store(run.path)
    is_unchanged = run.state is RunState.REMOVING or Candidate(run).changed == candidate.changed
    if not is_unchanged or not TaskLog(store, f"{TASK_LOG}/").mark_removal(run.records):
        raise RunFolderError(f"{run.path} goes on, so it stays.")
    plans = plans_of(run)
    store.delete(f"{plan}/{SETTINGS}" for plan in plans)
    for plan in plans:
        store.delete_folder(f"{plan}/")
    # One after the other, and each once: a plan that finds no record any more begins the log anew.
    for key in store.list(f"{TASK_LOG}/"):
        store.delete([key])
    if isinstance(run.path, Path):
        for folder in (run.path / TASK_LOG, run.path, run.path.parent, run.path.parent.parent):
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class Leftover:
    """
    What a process that was killed has left.

    :param path: where it is.
    :param size: its bytes.
    :param remove: removes it.
    """

    path: str
    size: int
    remove: Callable[[], None]


def find_leftovers(output: str | os.PathLike[str] | Address, now: float) -> Iterator[Leftover]:
    """
    Yield the temporary files, and the unfinished uploads of S3, that nobody has written to for a day.

    They are those below the run folders, and beside the result; on S3 all below the output, unless that is the entire
    bucket.
    """
    root = location_of(output)
    store, before = open_store(root), now - DAY_S
    if isinstance(root, Address) and root.key:
        found = store.find_unfinished("", before, is_recursive=True)
    else:
        found = (
            each
            for prefix, is_recursive in (("", False), (f"{RUNS}/", True))
            for each in store.find_unfinished(prefix, before, is_recursive=is_recursive)
        )
    for each in found:
        yield Leftover(str(root / each.key), each.size, partial(store.discard, each))


def find_scratch(now: float) -> Iterator[Leftover]:
    """
    Yield the local folders of this user's plans and checks in which nothing has changed for a day.

    Those of nodes are removed by the next node on their machine.
    """
    for folder in Path(tempfile.gettempdir()).glob("airflow_prs-*"):
        with suppress(FileNotFoundError):
            is_ours = folder.name.startswith(_SCRATCH) and folder.is_dir() and not folder.is_symlink()
            if not is_ours or folder.stat().st_uid != os.getuid():
                continue
            stats = [path.lstat() for path in (folder, *folder.rglob("*"))]
            if max(stat.st_mtime for stat in stats) < now - DAY_S:
                size = sum(stat.st_size for stat in stats[1:])
                yield Leftover(str(folder), size, partial(shutil.rmtree, folder))
