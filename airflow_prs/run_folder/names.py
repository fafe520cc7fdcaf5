"""The paths of the files in a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

from airflow_prs.object_storage.addresses import Address
from airflow_prs.records import RUNS, RunIdentity, Shard
from airflow_prs.run_folder.shard_records import Writer
from airflow_prs.store.opening import Location, location_of

_LocationT = TypeVar("_LocationT", Path, Address)

_LONGEST_BYTES = 120

CUT = "!"
"""Part of the name of a folder that does not hold the entire name of its DAG, run or task."""

TASK_LOG = "log"
"""Name of the folder of the task log, beside the run folders of the plans."""


def encode(name: str) -> str:
    """
    Return the folder name for a DAG, run or task; two names never have the same folder.

    The name is percent-encoded. If it is longer than 120 bytes, it is cut and ends with ``!`` and a hash; other encoded
    names do not contain ``!``.
    """
    encoded = quote(name, safe="")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= _LONGEST_BYTES:
        return encoded
    ending = CUT + hashlib.sha256(name.encode()).hexdigest()[:16]
    return encoded[: _LONGEST_BYTES - len(ending)] + ending


def run_path(output: str, identity: RunIdentity) -> Location:
    """Return the location of the run folder of one execution of plan."""
    names = (identity.dag_id, identity.run_id, identity.task_id, identity.plan)
    path = location_of(output) / RUNS
    for name in names:
        path /= encode(name)
    return path


SETTINGS = "config.json"
MANIFEST = "manifest.parquet"
SOURCE_ZIP = "source.zip"
OUTPUT = "output"
LOGS = "logs"
USER_LOGS = f"{LOGS}/user"
INPUTS = "inputs"
LAYOUT = "layout/"
"""Prefix of the keys of the revisions of the layout."""

SHARDS = "shards/"
"""Prefix of the keys of all shards."""
ROWS = "rows/"
"""Prefix of the keys of a shard's rows, behind that of the shard."""

RUN_LOG = "log/"
"""Prefix of the keys of the run log."""
RUN_STATUS = "status.json"
"""Key of status.json of the run."""

REPORT = "report.json"
SEEN = "seen/"
"""Prefix of the keys of the files that an input with only_new=True had when it was planned."""

PROCESSED = "processed_mini-batches.csv"
PROCESS_SUMMARY = "process_summary.csv"
NODE_SUMMARY = "node_summary.csv"
FAILED_ITEMS = "failed_items.jsonl"
FAILED_ROWS = "failed_rows.parquet"


def shard_prefix(number: int) -> str:
    """Return the prefix of the keys of a shard."""
    return f"{SHARDS}{number:05d}/"


def loan_prefix(shard: int, number: int) -> str:
    """
    Return the prefix of the keys of a loan.

    :param shard: number of the shard that lends.
    :param number: number of the request.
    """
    return f"{shard_prefix(shard)}loans/{number:010d}/"


def reports_prefix(claim: int) -> str:
    """
    Return the prefix of the keys of the reports of a merge.

    :param claim: number of its claim in the task log.
    """
    return f"reports/{claim:010d}/"


def shard_status(number: int) -> str:
    """Return the key of status.json of the newest attempt at a shard."""
    return f"{shard_prefix(number)}status.json"


def loan_status(shard: int, number: int) -> str:
    """Return the key of status.json of a loan; see loan_prefix for the parameters."""
    return f"{loan_prefix(shard, number)}status.json"


def rows_prefix(shard: int) -> str:
    """Return the prefix of the keys of the rows of a shard's writers."""
    return f"{shard_prefix(shard)}{ROWS}"


def rows_key_prefix(writer: Writer) -> str:
    """Return the prefix of the keys of the objects with a writer's rows."""
    return f"{rows_prefix(writer.shard)}{writer.id}/"


def rows_key(writer: Writer, begin: int, end: int) -> str:
    """
    Return the key of an object with rows.

    :param begin: offset of its first byte in all rows of the writer.
    :param end: offset after its last byte.
    """
    return f"{rows_key_prefix(writer)}{begin:016d}-{end:016d}"


def checkpoint_key(shard: Shard, number: int, writer: str) -> str:
    """
    Return the key of a checkpoint.

    :param number: number of the record that names it.
    :param writer: id of who writes it.
    """
    return f"{shard_prefix(shard.number)}checkpoints/{number:010d}-{writer}"


class Names(Generic[_LocationT]):
    """
    The locations inside a run folder, or inside the local folder of a node that is laid out like one.

    :param path: the folder.
    """

    def __init__(self, path: _LocationT) -> None:
        self.path: _LocationT = path
        self.settings: _LocationT = path / SETTINGS
        self.manifest: _LocationT = path / MANIFEST
        self.source_zip: _LocationT = path / SOURCE_ZIP
        self.inputs: _LocationT = path / INPUTS
        self.status: _LocationT = path / RUN_STATUS
        self.report: _LocationT = path / REPORT
        self.processed: _LocationT = path / PROCESSED
        self.process_summary: _LocationT = path / PROCESS_SUMMARY
        self.node_summary: _LocationT = path / NODE_SUMMARY
        self.failed_items: _LocationT = path / FAILED_ITEMS
        self.failed_rows: _LocationT = path / FAILED_ROWS
        self.script_output: _LocationT = path / OUTPUT
        self.logs: _LocationT = path / LOGS / "user"
        self.system_logs: _LocationT = path / LOGS / "sys"

    def rows(self, writer: Writer, process: int) -> _LocationT:
        """Return the file with the rows that a worker process of a node has written."""
        return self.path / rows_prefix(writer.shard) / f"{writer.id}-{process:03d}.bin"

    def log(self, kind: str, node: str, process: str) -> _LocationT:
        """
        Return the log file of a worker process.

        :param kind: ``stdout``, ``stderr`` or ``entry_script_log``.
        """
        if kind == "entry_script_log":
            return self.logs / kind / node / f"{process}.log.txt"
        return self.logs / kind / node / f"{process}.{kind}.txt"

    def resources(self, node: str) -> _LocationT:
        """Return the file with the resources that a node used."""
        return self.system_logs / "resources" / f"{node}.csv"

    def profile(self, node: str, process: str) -> _LocationT:
        """Return the profile of a worker process."""
        return self.system_logs / "profiles" / node / f"{process}.prof"
