"""RunFolder: the interface to the files of one execution of plan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.inputs.mini_batches import batches_of
from airflow_prs.records import Manifest, MiniBatch, RunIdentity, Shard
from airflow_prs.run_folder import manifest as manifests
from airflow_prs.run_folder.attempts import Attempt, open_attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.loans import Request
from airflow_prs.run_folder.names import REPORT, RUN_STATUS, TASK_LOG, Names, all_pattern, run_path, task_pattern
from airflow_prs.run_folder.rows_files import RowsFiles
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.shard_log import ShardState, read_shard
from airflow_prs.run_folder.shard_records import Writer
from airflow_prs.run_folder.task_log import TaskLog
from airflow_prs.settings import RunSettings
from airflow_prs.store import files
from airflow_prs.store.port import Store
from airflow_prs.store.posix import PosixStore
from airflow_prs.store.probing import probe_store

if TYPE_CHECKING:
    import pyarrow as pa


class RunFolder:
    """
    The run folder of one execution of plan.

    :param path: its path; it need not exist yet.
    :param execution: number of the execution of plan whose terms apply; None: those of the newest one of this folder.
    """

    def __init__(self, path: str | os.PathLike[str], execution: int | None = None) -> None:
        self.path = Path(path)
        self.names = Names(self.path)
        self.store: Store = PosixStore(self.path)
        self.execution = execution

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
        return PosixStore(self.path.parent)

    # What plan writes

    def write_settings(self, settings: RunSettings) -> None:
        """Write the settings that plan has resolved."""
        files.make_folder(self.path)
        files.write_atomically(self.names.settings, settings.to_json())

    def read_settings(self) -> RunSettings:
        """
        Return the settings that plan has resolved, under the terms of the execution.

        :raises RunFolderError: if this machine does not see the run folder, or it has the layout of another version.
        """
        settings = self.read_planned_settings()
        history = self.open_task_log().read()
        number = history.newest_execution(self.path.name) if self.execution is None else self.execution
        return settings if number is None else settings.with_terms(history.execution(number).terms)

    def read_planned_settings(self) -> RunSettings:
        """
        Return the settings under the terms of the first execution of this folder.

        :raises RunFolderError: if this machine does not see the run folder, or it is damaged or has the layout of
            another version.
        """
        try:
            return RunSettings.from_json(self.names.settings.read_bytes())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.names.settings} cannot be seen from this machine. Run folders must lie on storage that all "
                "nodes share: mount it at the same path everywhere, or let all tasks of the group run on one machine."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{self.names.settings} is damaged: {type(error).__name__}: {error}. Clear the plan task to start over."
            ) from None

    def write_manifest(self, mini_batches: Iterable[MiniBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest, the last file that plan writes."""
        return self.write_batches(batches_of(mini_batches), shards)

    def write_batches(self, batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest from record batches of mini-batches; see inputs.mini_batches."""
        files.make_folder(self.path)
        return manifests.write_manifest(self.names.manifest, batches, shards)

    def read_manifest(self) -> Manifest:
        """Return the totals and the shards; it reads only the footer."""
        return manifests.read_manifest(self.names.manifest)

    def read_mini_batches(self, first: int, end: int) -> Iterator[MiniBatch]:
        """Yield mini-batches in index order, in bounded memory."""
        return manifests.read_mini_batches(self.names.manifest, first, end)

    def select_mini_batches(self, indices: Sequence[int]) -> Iterator[MiniBatch]:
        """Yield the mini-batches with some indices, which are in ascending order, in bounded memory."""
        return manifests.select_mini_batches(self.names.manifest, indices)

    def read_item_counts(self, first: int, end: int) -> list[int]:
        """Return the numbers of items of some consecutive mini-batches."""
        return manifests.read_item_counts(self.names.manifest, first, end)

    # What nodes write

    def open_attempt(self, shard: Shard, task_try: TaskTry, *, node: str, window: int) -> Attempt:
        """Claim a shard and return the attempt; see attempts.open_attempt."""
        return open_attempt(self.store, shard, task_try, node=node, window=window, rows=self._rows_files)

    def ask_for_loan(self, state: ShardState, borrower: Attempt) -> Request:
        """Ask the claimant of a shard for mini-batches; see loans.Request."""
        return Request(self.store, state, borrower.writer)

    def read_shard(self, shard: Shard, known: ShardState | None = None) -> ShardState:
        """
        Return a shard's state; see shard_log.read_shard.

        :param known: an earlier state of the shard, from which to read on.
        """
        return read_shard(self.store, shard, known)

    def read_borrowing_shards(self, manifest: Manifest) -> list[ShardState]:
        """Return the states of the borrowing shards of the newest execution that have begun."""
        shards = manifest.borrowing_shards(self.read_settings().config.node_count)
        return [state for state in map(self.read_shard, shards) if state.claim is not None]

    def read_report(self) -> dict[str, Any] | None:
        """
        Return report.json; None: there is none.

        :raises ValueError: if it is no JSON.
        """
        return _read_json(self.store, REPORT)

    def read_status(self, key: str = RUN_STATUS) -> dict[str, Any] | None:
        """
        Return status.json of the run, a shard or a loan; None: there is none.

        :raises ValueError: if it is no JSON.
        """
        return _read_json(self.store, key)

    def write_status(self, status: Mapping[str, Any], key: str = RUN_STATUS) -> None:
        """Write status.json of the run, a shard or a loan."""
        self.store.put(key, json.dumps(status, ensure_ascii=False).encode())

    def read_layout(self) -> bytes | None:
        """Return the newest revision of the layout that all rows share; None: there is none."""
        revisions = self.names.layout.glob("[0-9]*")
        newest = max(revisions, default=None, key=lambda path: int(path.name))
        return None if newest is None else newest.read_bytes()

    # What gatekeeper and nodes decide

    def run_log(self) -> RunLog:
        """Return a reader and writer of the run log."""
        return RunLog(self.store)

    def _rows_files(self, writer: Writer) -> RowsFiles:
        path = partial(self.names.rows, writer)
        files.make_folder(path(0).parent)
        return RowsFiles(path)


def _read_json(store: Store, key: str) -> dict[str, Any] | None:
    data = store.get(key)
    return None if data is None else dict(json.loads(data))


def run_folder_of(output: str, identity: RunIdentity) -> RunFolder:
    """Return the run folder of one execution of plan: ``<output>/_parallel_run/<dag>/<run>/<task>/<plan>``."""
    return RunFolder(run_path(output, identity))


def earlier_runs(output: str, dag_id: str, task_id: str) -> list[RunFolder]:
    """Return the run folders of all runs of a task in an output, newest first."""
    found = [path for path in Path(output).glob(task_pattern(dag_id, task_id)) if path.name != TASK_LOG]
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def all_plans(output: str | os.PathLike[str]) -> list[RunFolder]:
    """Return the run folders of all runs of all tasks in an output, in the order in which they were planned."""
    found = [RunFolder(path) for path in Path(output).glob(all_pattern())]
    planned = [folder for folder in found if folder.names.settings.is_file()]
    return sorted(planned, key=lambda folder: folder.names.settings.stat().st_mtime_ns)
