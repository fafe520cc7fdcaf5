"""The paths of the files in a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from airflow_prs.records import RUNS, RunIdentity, Shard
from airflow_prs.run_folder.attempt_records import Link

_LONGEST_BYTES = 120


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
    """Return the glob of all run folders, relative to the output."""
    return f"{RUNS}/*/*/*/*"


def task_pattern(dag_id: str, task_id: str) -> str:
    """Return the glob of the run folders of all runs of a task, relative to the output."""
    return f"{RUNS}/{encode(dag_id)}/*/{encode(task_id)}/*"


def run_path(output: str, identity: RunIdentity) -> Path:
    """Return the path of the run folder of one execution of plan."""
    names = (identity.dag_id, identity.run_id, identity.task_id, identity.plan)
    return Path(output, RUNS, *map(encode, names))


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
        self.layout = path / "layout"
        self.verdicts = path / "verdicts"
        self.gatekeeper = path / "gatekeeper"
        self.status = path / "status.json"
        self.report = path / "report.json"
        self.processed = path / "processed_mini-batches.csv"
        self.process_summary = path / "process_summary.csv"
        self.node_summary = path / "node_summary.csv"
        self.failed_items = path / "failed_items.jsonl"
        self.script_output = path / "output"
        self.logs = path / "logs" / "user"
        self.system_logs = path / "logs" / "sys"

    def without_trigger(self, attempt: str) -> Path:
        """Return the marker of a gatekeeper's attempt that waits without a trigger."""
        return self.gatekeeper / f"{attempt}.without-trigger"

    def shard(self, shard: Shard) -> Path:
        """Return the folder of a shard's attempts."""
        return self.path / "nodes" / f"{shard.number:05d}"

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


class AttemptNames:
    """
    The paths in the folder of one attempt or loan.

    :param path: the folder.
    :param rows: folder of its rows files; None: the same folder.
    """

    def __init__(self, path: Path, rows: Path | None = None) -> None:
        self.path = path
        self._rows = rows or path
        self.claim = path / "claim.json"
        self.commits = path / "commits.jsonl"
        self.outcomes = path / "outcomes.bin"
        self.tries = path / "tries.jsonl"
        self.status = path / "status.json"

    def rows(self, process: int) -> Path:
        """Return the file with the rows of one worker process."""
        return self._rows / f"rows-{process:03d}.bin"

    @property
    def place(self) -> str:
        """The folder relative to that of all shards, ``<shard>/<attempt>``."""
        return f"{self.path.parent.name}/{self.path.name}"


def linked_names(shard_folder: Path, link: Link) -> AttemptNames:
    """Return the paths of the attempt or loan that a link names."""
    return AttemptNames(shard_folder / link.attempt, shard_folder.parent / link.rows if link.rows else None)


def attempt_name(try_number: int, task_instance_id: str, again: int = 0) -> str:
    """
    Return the name of an attempt; names sort by try number.

    :param again: how many attempts the same try has made before.
    """
    # An encoded name does not contain a plus sign.
    return f"{try_number:06d}-{encode(task_instance_id)}" + (f"+{again:03d}" if again else "")


_LOAN = "loan-"


def loan_name() -> str:
    """Return a unique name for a new loan."""
    return f"{_LOAN}{uuid4().hex}"


def is_loan(name: str) -> bool:
    """Whether a folder next to a shard's attempts belongs to a loan."""
    return name.startswith(_LOAN)
