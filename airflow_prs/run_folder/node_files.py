"""The files that a node and its worker processes write bit by bit: where they are, and where they are kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from airflow_prs.run_folder.changed_files import ChangedFiles
from airflow_prs.run_folder.names import LOGS, OUTPUT, Names
from airflow_prs.run_folder.rows_files import RowsFiles, RowsInPlace, UploadedRows
from airflow_prs.run_folder.shard_records import Writer
from airflow_prs.store import files
from airflow_prs.store.opening import Location, location_of, open_store
from airflow_prs.store.port import Store


class NodeFiles:
    """
    The rows, the logs and the output of scripts of a node.

    On a file system they are written where they are kept. On object storage they are written into a local folder, and
    uploaded.

    :param run_folder: the run folder.
    :param store: its store.
    :param local: the local folder.
    :param output: the folder that scripts write to; None: one in the run folder.
    :ivar names: the locations at which the node writes.
    :ivar output: the folder that scripts write to.
    """

    def __init__(self, run_folder: Location, store: Store, local: Path, output: str | None) -> None:
        self.names: Names[Path]
        self._store = store
        self._logs = self._output = None
        if isinstance(run_folder, Path):
            self.names = Names(run_folder)
            self.output = self.names.script_output if output is None else Path(output)
        else:
            self.names = Names(local)
            self.output = self.names.script_output
            self._logs = ChangedFiles(local / LOGS, store, f"{LOGS}/", is_paced=True)
            if output is None:
                self._output = ChangedFiles(self.output, store, f"{OUTPUT}/")
            else:
                self._output = ChangedFiles(self.output, open_store(location_of(output)), "")

    def rows(self, writer: Writer) -> RowsFiles:
        """Return the rows files of an attempt."""
        path = partial(self.names.rows, writer)
        files.make_folder(path(0).parent)
        if self._output is None:
            return RowsInPlace(path)
        return UploadedRows(self._store, path, writer, self._output)

    def upload_output(self) -> None:
        """Upload what scripts have written since the last commit, in shutdown() for example."""
        if self._output is not None:
            self._output.upload()

    def upload_logs(self, *, is_last: bool = False) -> None:
        """
        Upload the logs that have grown, those that grow fast more rarely.

        :param is_last: whether this is the last call, so that no log waits any more.
        """
        if self._logs is not None:
            self._logs.upload(is_last=is_last)
