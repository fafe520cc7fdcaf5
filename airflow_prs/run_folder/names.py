"""The paths of the files in a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from airflow_prs.records import RUNS, RunIdentity, Shard
from airflow_prs.run_folder.shard_records import Writer

_LONGEST_BYTES = 120

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
    ending = "!" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return encoded[: _LONGEST_BYTES - len(ending)] + ending


def all_pattern() -> str:
    """Return the glob of all run folders and task logs, relative to the output."""
    return f"{RUNS}/*/*/*/*"


def task_pattern(dag_id: str, task_id: str) -> str:
    """Return the glob of the run folders of all runs of a task, and their task logs, relative to the output."""
    return f"{RUNS}/{encode(dag_id)}/*/{encode(task_id)}/*"


def run_path(output: str, identity: RunIdentity) -> Path:
    """Return the path of the run folder of one execution of plan."""
    names = (identity.dag_id, identity.run_id, identity.task_id, identity.plan)
    return Path(output, RUNS, *map(encode, names))


RUN_LOG = "log/"
"""Prefix of the keys of the run log."""
RUN_STATUS = "status.json"
"""Key of status.json of the run."""

LAYOUT = "layout/"
"""Prefix of the keys of the layout's revisions."""


REPORT = "report.json"
PROCESSED = "processed_mini-batches.csv"
PROCESS_SUMMARY = "process_summary.csv"
NODE_SUMMARY = "node_summary.csv"
FAILED_ITEMS = "failed_items.jsonl"


def shard_prefix(number: int) -> str:
    """Return the prefix of the keys of a shard."""
    return f"shards/{number:05d}/"


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


def checkpoint_key(shard: Shard, number: int, writer: str) -> str:
    """
    Return the key of a checkpoint.

    :param number: number of the record that names it.
    :param writer: id of who writes it.
    """
    return f"{shard_prefix(shard.number)}checkpoints/{number:010d}-{writer}"


class Names:
    """
    The paths inside a run folder.

    :param path: the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "config.json"
        self.manifest = path / "manifest.parquet"
        self.source_zip = path / "source.zip"
        self.inputs = path / "inputs"
        self.status = path / RUN_STATUS
        self.report = path / REPORT
        self.processed = path / PROCESSED
        self.process_summary = path / PROCESS_SUMMARY
        self.node_summary = path / NODE_SUMMARY
        self.failed_items = path / FAILED_ITEMS
        self.script_output = path / "output"
        self.logs = path / "logs" / "user"
        self.system_logs = path / "logs" / "sys"

    def rows(self, writer: Writer, process: int) -> Path:
        """Return the file with the rows that a worker process of a node has written."""
        return self.path / shard_prefix(writer.shard) / "rows" / f"{writer.id}-{process:03d}.bin"

    def log(self, kind: str, node: str, process: str) -> Path:
        """
        Return the log file of a worker process.

        :param kind: ``stdout``, ``stderr`` or ``entry_script_log``.
        """
        if kind == "entry_script_log":
            return self.logs / kind / node / f"{process}.log.txt"
        return self.logs / kind / node / f"{process}.{kind}.txt"

    def resources(self, node: str) -> Path:
        """Return the file with the resources that a node used."""
        return self.system_logs / "resources" / f"{node}.csv"

    def profile(self, node: str, process: str) -> Path:
        """Return the profile of a worker process."""
        return self.system_logs / "profiles" / node / f"{process}.prof"
