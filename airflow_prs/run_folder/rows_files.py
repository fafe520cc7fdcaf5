"""
The rows that worker processes write, and where they are kept.

A worker process appends to a local file. On a file system this file is in the run folder. On object storage it is in a
folder of the node, and each commit uploads its rows as one object. So the offset of an outcome counts in the file of
its process, or in all objects of its writer one after the other.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from airflow_prs.records import Outcome
from airflow_prs.run_folder.changed_files import ChangedFiles
from airflow_prs.run_folder.names import rows_key, rows_key_prefix
from airflow_prs.run_folder.shard_records import Writer
from airflow_prs.store.files import sync_file, sync_folder
from airflow_prs.store.port import Store

_CHUNK_BYTES = 8 << 20
_ONE_REQUEST_BYTES = 1 << 20


class RowsFiles(Protocol):
    """
    The rows files of one writer, to which its worker processes append.

    :ivar path: returns the path of the rows file of a worker process.
    """

    path: Callable[[int], Path]

    def keep(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Make the rows of some outcomes durable, and return the outcomes with the offsets of what is kept."""
        ...


class RowsObject(NamedTuple):
    """
    An object with rows.

    :param begin: offset of its first byte in all rows of its writer.
    :param end: offset after its last byte.
    """

    begin: int
    end: int
    key: str


def list_rows(store: Store, writer: Writer) -> list[RowsObject]:
    """Return the objects that a writer has uploaded, in the order of their offsets."""
    found = []
    for key in store.list(rows_key_prefix(writer)):
        begin, _, end = key.rpartition("/")[2].partition("-")
        found.append(RowsObject(int(begin), int(end), key))
    return found


class RowsInPlace:
    """
    Rows files that are part of the run folder.

    :param path: returns the path of the rows file of a worker process.
    """

    def __init__(self, path: Callable[[int], Path]) -> None:
        self.path = path
        self._durable: set[Path] = set()

    def keep(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Sync the files."""
        for process in {outcome.process for outcome in outcomes if outcome.length}:
            path = self.path(process)
            sync_file(path)
            if path not in self._durable:
                sync_folder(path.parent)
                self._durable.add(path)
        return outcomes


class UploadedRows:
    """
    Rows files in a folder of the node, whose rows are uploaded.

    :param path: returns the path of the rows file of a worker process.
    :param writer: whose rows they are.
    :param output: the files that entry scripts write besides; those that have changed are uploaded, too.
    """

    def __init__(self, store: Store, path: Callable[[int], Path], writer: Writer, output: ChangedFiles) -> None:
        self.path = path
        self._store = store
        self._writer = writer
        self._output = output
        self._end = 0

    def keep(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Upload the rows as one object."""
        if not outcomes:
            return outcomes
        self._output.upload()
        kept, end = [], self._end
        for outcome in outcomes:
            kept.append(replace(outcome, offset=end) if outcome.length else outcome)
            end += outcome.length
        if end > self._end:
            self._upload(outcomes, rows_key(self._writer, self._end, end), end - self._end)
        self._end = end
        return kept

    def _upload(self, outcomes: Sequence[Outcome], key: str, size: int) -> None:
        if size > _ONE_REQUEST_BYTES:
            with self._store.writer(key) as out:
                self._copy(outcomes, out)
            return
        # A request of few bytes is given up sooner if the storage does not answer.
        rows = io.BytesIO()
        self._copy(outcomes, rows)
        self._store.put(key, rows.getvalue())

    def _copy(self, outcomes: Sequence[Outcome], out: IO[bytes]) -> None:
        files: dict[int, IO[bytes]] = {}
        try:
            for outcome in outcomes:
                if outcome.length and outcome.process not in files:
                    files[outcome.process] = self.path(outcome.process).open("rb", buffering=0)
                offset, end = outcome.offset, outcome.offset + outcome.length
                while offset < end:
                    rows = os.pread(files[outcome.process].fileno(), min(_CHUNK_BYTES, end - offset), offset)
                    if not rows:
                        raise OSError(f"rows of mini-batch {outcome.index} are missing in {self.path(outcome.process)}")
                    out.write(rows)
                    offset += len(rows)
        finally:
            for file in files.values():
                file.close()
