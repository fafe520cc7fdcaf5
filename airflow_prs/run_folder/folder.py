"""RunFolder: the interface to the files of one execution of plan."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.inputs.mini_batches import batches_of
from airflow_prs.object_storage.addresses import Address
from airflow_prs.records import RUNS, Manifest, MiniBatch, RunIdentity, Shard
from airflow_prs.run_folder import manifest as manifests
from airflow_prs.run_folder.attempts import Attempt, open_attempt
from airflow_prs.run_folder.changed_files import ChangedFiles
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.intervals import ON_FILES, ON_OBJECTS, Intervals
from airflow_prs.run_folder.layout import Layout
from airflow_prs.run_folder.loans import Request
from airflow_prs.run_folder.names import (
    INPUTS,
    MANIFEST,
    REPORT,
    ROWS,
    RUN_STATUS,
    SETTINGS,
    SHARDS,
    SOURCE_ZIP,
    TASK_LOG,
    Names,
    encode,
    run_path,
)
from airflow_prs.run_folder.node_files import NodeFiles
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.seen_files import SeenFiles, open_seen, write_seen
from airflow_prs.run_folder.shard_log import ShardState, read_shard
from airflow_prs.run_folder.task_log import History, TaskLog
from airflow_prs.settings import RunSettings
from airflow_prs.store.opening import Location, location_of, open_store
from airflow_prs.store.port import Store
from airflow_prs.store.probing import probe_store

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")
_R = TypeVar("_R")

_CHUNK_BYTES = 1 << 20
_LEVELS = 3
"""Folders above the run folders: of the DAG, the run and the task."""


class RunFolder:
    """
    The run folder of one execution of plan.

    :param path: its path, or its address on object storage; it need not exist yet.
    :param execution: number of the execution of plan whose terms apply; None: those of the newest one of this folder.
    """

    def __init__(self, path: str | os.PathLike[str] | Address, execution: int | None = None) -> None:
        self.path = location_of(path)
        self.names: Names[Any] = Names(self.path)
        self.store = open_store(self.path)
        self.execution = execution

    @property
    def intervals(self) -> Intervals:
        """How often to write and to look, on this kind of storage."""
        return ON_FILES if isinstance(self.path, Path) else ON_OBJECTS

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def open_task_log(self) -> TaskLog:
        """Return the task log of the run, for one process."""
        return TaskLog(self._run_store(), f"{TASK_LOG}/")

    def check_storage(self) -> None:
        """
        Check that the storage can hold run folders.

        :raises RunFolderError: if it does not keep what it has promised to create once.
        """
        probe_store(self._run_store(), f"{TASK_LOG}/")

    def _run_store(self) -> Store:
        return open_store(self.path.parent)

    @property
    def is_planned(self) -> bool:
        """Whether plan has begun to write the folder."""
        return self.store.stat(SETTINGS) is not None

    @property
    def has_manifest(self) -> bool:
        """Whether plan has written the entire folder."""
        return self.store.stat(MANIFEST) is not None

    # What plan writes

    def write_settings(self, settings: RunSettings) -> None:
        """Write the settings that plan has resolved."""
        self.store.put(SETTINGS, settings.to_json())

    def read_settings(self) -> RunSettings:
        """
        Return the settings that plan has resolved, under the terms of the execution and the newest limits.

        :raises RunFolderError: if this machine does not see the run folder, or it has the layout of another version.
        """
        return self.under_newest_terms(self.read_planned_settings(), self.open_task_log().read(), self.read_run_log())

    def under_newest_terms(self, settings: RunSettings, history: History, run_log: RunLog) -> RunSettings:
        """
        Return settings under the terms of the execution and the newest limits.

        :param settings: see read_planned_settings.
        :param history: the task log.
        :param run_log: the run log, as far as it has been read.
        :raises RunFolderError: if the task log has no such execution.
        """
        number = history.newest_execution(self.path.name) if self.execution is None else self.execution
        terms = {} if number is None else dict(history.execution(number).terms)
        if run_log.limits is not None:
            terms |= asdict(run_log.limits)
        return settings.with_terms(terms) if terms else settings

    def read_planned_settings(self) -> RunSettings:
        """
        Return the settings under the terms of the first execution of this folder.

        :raises RunFolderError: if this machine does not see the run folder, or it is damaged or has the layout of
            another version.
        """
        content = self.store.get(SETTINGS)
        if content is None:
            raise RunFolderError(
                f"{self.names.settings} cannot be seen from this machine. Run folders must lie on storage that all "
                "nodes share: mount it at the same path everywhere, or let all tasks of the group run on one machine."
            )
        try:
            return RunSettings.from_json(content)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{self.names.settings} is damaged: {type(error).__name__}: {error}. Clear the plan task to start over."
            ) from None

    def write_manifest(self, mini_batches: Iterable[MiniBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest, the last file that plan writes."""
        return self.write_batches(batches_of(mini_batches), shards)

    def write_batches(self, batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest from record batches of mini-batches; see inputs.mini_batches."""
        return manifests.write_manifest(self.store, batches, shards)

    def upload_inputs(self, local: Path) -> None:
        """Upload the inputs that plan has written into a local folder."""
        ChangedFiles(local, self.store, f"{INPUTS}/").upload()

    def write_seen(self, name: str, files: Iterable[pa.RecordBatch], work: Mapping[str, str]) -> None:
        """Write all files of an input; see seen_files.write_seen."""
        write_seen(self.store, name, files, work)

    def open_seen(self, name: str) -> SeenFiles | None:
        """Return all files of an input as plan has seen them; None: they were not written."""
        return open_seen(self.store, name)

    def remove_inputs(self) -> None:
        """Remove the inputs that plan has uploaded."""
        self.store.delete(self.store.list(f"{INPUTS}/"))

    def remove_rows(self) -> None:
        """Remove the rows of all shards; the logs stay."""
        for shard in self.store.list_folders(SHARDS):
            self.store.delete(self.store.list(f"{SHARDS}{shard}/{ROWS}"))

    def write_source(self, archive: IO[bytes]) -> None:
        """Write source.zip, the code of the run, as it is in an archive."""
        archive.seek(0)
        with self.store.writer(SOURCE_ZIP) as out:
            shutil.copyfileobj(archive, out, _CHUNK_BYTES)

    def open_source(self) -> IO[bytes]:
        """
        Return source.zip as a file.

        :raises FileNotFoundError: if there is none.
        """
        return self.store.reader(SOURCE_ZIP)

    def read_manifest(self) -> Manifest:
        """Return the totals and the shards; it reads only the footer."""
        return manifests.read_manifest(self.store)

    def read_mini_batches(self, first: int, end: int) -> Iterator[MiniBatch]:
        """Yield mini-batches in index order, in bounded memory."""
        return manifests.read_mini_batches(self.store, first, end)

    def select_mini_batches(self, indices: Sequence[int]) -> Iterator[MiniBatch]:
        """Yield the mini-batches with some indices, which are in ascending order, in bounded memory."""
        return manifests.select_mini_batches(self.store, indices)

    def read_item_counts(self, first: int, end: int) -> list[int]:
        """Return the numbers of items of some consecutive mini-batches."""
        return manifests.read_item_counts(self.store, first, end)

    # What nodes write

    def node_files(self, local: Path, output: str | None = None) -> NodeFiles:
        """
        Return the files that a node writes.

        :param local: a local folder for them, which is used if this run folder is not on a file system.
        :param output: the folder that scripts write to; None: one in the run folder.
        """
        return NodeFiles(self.path, self.store, local, output)

    def open_attempt(self, shard: Shard, task_try: TaskTry, *, node: str, window: int, files: NodeFiles) -> Attempt:
        """Claim a shard and return the attempt; see attempts.open_attempt."""
        return open_attempt(self.store, shard, task_try, node=node, window=window, rows=files.rows)

    def ask_for_loan(self, state: ShardState, borrower: Attempt) -> Request:
        """Ask the claimant of a shard for mini-batches; see loans.Request."""
        return Request(self.store, state, borrower.writer)

    def read_shard(self, shard: Shard, known: ShardState | None = None) -> ShardState:
        """
        Return a shard's state; see shard_log.read_shard.

        :param known: an earlier state of the shard, from which to read on.
        """
        return read_shard(self.store, shard, known)

    def read_borrowing_shards(self, manifest: Manifest, node_count: int) -> list[ShardState]:
        """
        Return the states of the borrowing shards that have begun.

        :param node_count: that of the newest execution.
        """
        shards = manifest.borrowing_shards(node_count)
        return [state for state in map(self.read_shard, shards) if state.claim is not None]

    def read_shards(self, known: Iterable[tuple[Shard, ShardState | None]]) -> list[ShardState]:
        """
        Return the states of some shards, some of which are read at the same time if each request takes long.

        :param known: each shard, and an earlier state of it from which to read on.
        """
        return self._map(lambda each: self.read_shard(*each), known)

    def read_statuses(self, keys: Iterable[str]) -> list[dict[str, Any] | None]:
        """Return some status.json, read in the same way."""
        return self._map(self.read_status, keys)

    def _map(self, read: Callable[[_T], _R], values: Iterable[_T]) -> list[_R]:
        if self.intervals.requests == 1:
            return list(map(read, values))
        with ThreadPoolExecutor(self.intervals.requests, thread_name_prefix="airflow_prs-shards") as threads:
            return list(threads.map(read, values))

    def read_report(self, key: str = REPORT) -> dict[str, Any] | None:
        """
        Return report.json; None: there is none.

        :param key: its key, if it is that of an earlier merge.
        :raises ValueError: if it is no JSON.
        """
        return _read_json(self.store, key)

    def read_result(self, location: str, size: int) -> bytes | None:
        """
        Return the first bytes of the result; None: it is gone.

        :param location: as the report names it.
        :param size: how many bytes at most.
        """
        place = location_of(location)
        return open_store(place.parent).get(place.name, 0, size)

    def read_status(self, key: str = RUN_STATUS) -> dict[str, Any] | None:
        """
        Return status.json of the run, a shard or a loan; None: there is none.

        :raises ValueError: if it is no JSON.
        """
        return _read_json(self.store, key)

    def write_status(self, status: Mapping[str, Any], key: str = RUN_STATUS) -> None:
        """Write status.json of the run, a shard or a loan."""
        self.store.put(key, json.dumps(status, ensure_ascii=False).encode())

    def layout(self) -> Layout:
        """Return a reader and writer of the layout that all rows share."""
        return Layout(self.store)

    # What gatekeeper and nodes decide

    def run_log(self) -> RunLog:
        """Return a reader and writer of the run log."""
        return RunLog(self.store)

    def read_run_log(self) -> RunLog:
        """Return the run log with all its records."""
        log = self.run_log()
        log.follow()
        return log


def _read_json(store: Store, key: str) -> dict[str, Any] | None:
    data = store.get(key)
    return None if data is None else dict(json.loads(data))


def run_folder_of(output: str, identity: RunIdentity) -> RunFolder:
    """Return the run folder of one execution of plan: ``<output>/_parallel_run/<dag>/<run>/<task>/<plan>``."""
    return RunFolder(run_path(output, identity))


def earlier_runs(output: str, dag_id: str, task_id: str) -> list[RunFolder]:
    """Return the run folders of all runs of a task in an output, newest first."""
    runs = location_of(output) / RUNS / encode(dag_id)
    paths = [runs / run / encode(task_id) for run in open_store(runs).list_folders("")]
    found = [path / plan for path in paths for plan in _plans(path)]
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def all_plans(output: str | os.PathLike[str]) -> list[RunFolder]:
    """Return the run folders of all runs of all tasks in an output, in the order in which they were planned."""
    tasks: list[Location] = [location_of(output) / RUNS]
    for _ in range(_LEVELS):
        tasks = [folder / name for folder in tasks for name in open_store(folder).list_folders("")]
    found = [RunFolder(path / plan) for path in tasks for plan in _plans(path)]
    planned = [(stat.modified, folder) for folder in found if (stat := folder.store.stat(SETTINGS)) is not None]
    return [folder for _, folder in sorted(planned, key=itemgetter(0))]


def _plans(path: Location) -> list[str]:
    """Return the names of the run folders in the folder of a task."""
    return [name for name in open_store(path).list_folders("") if name != TASK_LOG]
