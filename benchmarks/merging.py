"""
Compare merge with `cat` of the same bytes.

The committed runs are artificial: their files are written directly, as a node with two worker processes would leave
them after many commits. Both sides read from the page cache, and both results are durable at the end: `cat` is followed
by `sync` of its file.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np  # noqa: TID253

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.environment import Environment
from airflow_prs.records import Manifest, Progress, RunIdentity, Shard, TryStatus
from airflow_prs.report.reports import write_reports
from airflow_prs.result.merge import merge_run
from airflow_prs.result.publication import write_result
from airflow_prs.run_folder import shard_log
from airflow_prs.run_folder.checkpoints import write_checkpoint
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.folder import RunFolder, run_folder_of
from airflow_prs.run_folder.outcomes import Content, no_content, outcome_type
from airflow_prs.run_folder.shard_records import Checkpoint, Claim, Closing, Epoch, ShardRecord, Writer
from airflow_prs.settings import RunSettings
from airflow_prs.store.posix import PosixStore
from benchmarks.comparing import Comparison

MANY = (1_000_000, 100)
LARGE = (1000, 3 << 20)
"""Number of mini-batches of a run, and bytes of rows in each of them."""

PROCESSES = 2
IN_A_CHECKPOINT = 1 << 15
ROWS_AT_ONCE = 64 << 20
WRITTEN_AT_ONCE = 1 << 20
RESULT = "parallel_run_step.txt"


@dataclass(frozen=True)
class CommittedRun:
    """A run in which every mini-batch is done."""

    folder: RunFolder
    settings: RunSettings
    manifest: Manifest

    @property
    def rows_files(self) -> list[Path]:
        """The files that the worker processes have written."""
        return sorted(self.folder.path.glob("shards/*/rows/*.bin"))

    @property
    def result(self) -> Path:
        """The file that merge publishes."""
        return Path(str(self.settings.output), RESULT)


@functools.cache
def committed_run(mini_batches: int, size_bytes: int) -> CommittedRun:
    """
    Create a run with one shard that two processes have completed in mixed order. It is removed when Python ends.

    :param size_bytes: size of the rows of each mini-batch.
    """
    output = tempfile.mkdtemp(prefix="airflow_prs-bench-")
    atexit.register(shutil.rmtree, output)
    identity = RunIdentity(dag_id="dag", run_id="run", task_id="task", plan="plan")
    config = ParallelRunConfig(
        environment=Environment.current(),
        entry_script="score.py",
        error_threshold=-1,
        output_action="append_row",
        compute_target="local",
        node_count=1,
    )
    settings = RunSettings(config=config, identity=identity, output=output)
    shard = Shard(number=0, first=0, count=mini_batches, items=mini_batches, size_bytes=mini_batches * size_bytes)
    folder = run_folder_of(output, identity)
    _write_attempt(folder, shard, mini_batches, size_bytes)
    folder.write_settings(settings)
    task_log = folder.open_task_log()
    task_log.append_execution(task_log.claim_plan(), folder=folder.path.name, terms=settings.terms)
    manifest = Manifest(mini_batches=mini_batches, items=mini_batches, size_bytes=shard.size_bytes, shards=(shard,))
    return CommittedRun(folder, settings, manifest)


def _write_attempt(folder: RunFolder, shard: Shard, mini_batches: int, size_bytes: int) -> None:
    claim = Claim(writer=Writer("writer", "host-0-1", 0), epoch=Epoch(0, 0), try_number=1)
    outcomes = _make_outcomes(mini_batches, size_bytes)
    for process in range(PROCESSES):
        done = np.flatnonzero(outcomes["process"] == process)
        outcomes["offset"][done] = np.arange(len(done)) * size_bytes
        path = folder.names.rows(claim.writer, process)
        path.parent.mkdir(parents=True, exist_ok=True)
        outcomes["crc"][done] = list(_write_rows(path, len(done), size_bytes))
    log = shard_log.shard_log(folder.store, shard)
    record = _make_record(claim, 0, mini_batches, size_bytes)
    log.append(0, shard_log.SHARD_RECORD.dump_json(replace(record, is_claim=True)))
    for number, first in enumerate(range(0, mini_batches, IN_A_CHECKPOINT), start=1):
        added = outcomes[first : first + IN_A_CHECKPOINT]
        before, checkpoint = record.checkpoint, Checkpoint(f"checkpoint-{number}", number, len(added))
        write_checkpoint(folder.store, checkpoint, [Content(outcomes=added, tries=no_content().tries)], before)
        record = replace(_make_record(claim, first + len(added), mini_batches, size_bytes), checkpoint=checkpoint)
        log.append(number, shard_log.SHARD_RECORD.dump_json(record))


def _make_outcomes(mini_batches: int, size_bytes: int) -> np.ndarray:
    """Create outcomes in order of completion: mini-batches are handed out in order, and take different times."""
    random = np.random.default_rng(7)
    outcomes = np.zeros(mini_batches, outcome_type())
    outcomes["index"] = np.argsort(np.arange(mini_batches) + random.exponential(2 * PROCESSES, mini_batches))
    for name in ("items", "succeeded", "returned", "tries"):
        outcomes[name] = 1
    outcomes["status"] = TryStatus.RUN_DONE
    outcomes["length"] = size_bytes
    outcomes["process"] = random.integers(0, PROCESSES, mini_batches)
    outcomes["started"] = 1_700_000_000 + outcomes["index"] / 5000
    for name in ("duration_s", "run_s", "cpu_s"):
        outcomes[name] = random.exponential(0.01, mini_batches)
    return outcomes


def _write_rows(path: Path, pieces: int, size_bytes: int) -> Iterator[int]:
    """Write the rows of the mini-batches of a process, and yield their checksums."""
    at_once = max(1, ROWS_AT_ONCE // size_bytes)
    with path.open("wb") as out:
        for first in range(0, pieces, at_once):
            data = os.urandom(min(at_once, pieces - first) * size_bytes)
            out.write(data)
            yield from (zlib.crc32(data[at : at + size_bytes]) for at in range(0, len(data), size_bytes))


def _make_record(claim: Claim, done: int, mini_batches: int, size_bytes: int) -> ShardRecord:
    progress = Progress(
        total=mini_batches,
        handed_out=done,
        succeeded=done,
        items_total=mini_batches,
        items_succeeded=done,
        elements=done,
        output_bytes=done * size_bytes,
    )
    return ShardRecord(
        claim=claim,
        progress=progress,
        granted=mini_batches,
        writers=(claim.writer,),
        closing=Closing.DONE if done == mini_batches else None,
    )


@contextmanager
def _fresh(path: Path, size_bytes: int) -> Iterator[None]:
    """
    Make earlier writes durable before a measurement, and remove its result afterwards.

    A file of the same size is written and removed first. A virtual machine returns free memory to its host, and getting
    it back can take longer than the copy, for the side that runs after a pause.
    """
    with path.open("wb") as out:
        for _ in range(0, size_bytes, WRITTEN_AT_ONCE):
            out.write(bytes(WRITTEN_AT_ONCE))
    path.unlink()
    os.sync()
    yield
    path.unlink(missing_ok=True)


def merge_s(mini_batches: int, size_bytes: int) -> float:
    """Return the seconds of the entire merge: it checks the counts, publishes the rows and writes the reports."""
    run = committed_run(mini_batches, size_bytes)
    with _fresh(run.result, mini_batches * size_bytes):
        began = time.monotonic()
        merge_run(run.folder, manifest=run.manifest)
        return time.monotonic() - began


def publish_s(mini_batches: int, size_bytes: int) -> float:
    """Return the seconds until the result is published, without the reports."""
    run = committed_run(mini_batches, size_bytes)
    with _fresh(run.result, mini_batches * size_bytes):
        began = time.monotonic()
        committed = read_committed(run.folder, run.manifest)
        with PosixStore(run.result.parent).writer(run.result.name) as out:
            write_result(out, committed, "text")
        return time.monotonic() - began


def report_s(mini_batches: int, size_bytes: int) -> float:
    """Return the seconds that all report files take."""
    run = committed_run(mini_batches, size_bytes)
    began = time.monotonic()
    committed = read_committed(run.folder, run.manifest)
    write_reports(run.folder, run.settings, status="completed", result=str(run.result), committed=committed)
    return time.monotonic() - began


def cat_s(mini_batches: int, size_bytes: int) -> float:
    """Return the seconds of `cat` of the same bytes, until the copy is durable."""
    run = committed_run(mini_batches, size_bytes)
    target = run.result.with_suffix(".cat")
    with _fresh(target, mini_batches * size_bytes):
        began = time.monotonic()
        with target.open("wb") as out:
            subprocess.run(["cat", *run.rows_files], stdout=out, check=True)
        subprocess.run(["sync", target], check=True)
        return time.monotonic() - began


def merge_memory_bytes(mini_batches: int, size_bytes: int) -> int:
    """Return the peak of memory that merge needs in addition to that of its process after the imports."""
    run = committed_run(mini_batches, size_bytes)
    with _fresh(run.result, mini_batches * size_bytes), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_memory_of_merge, run).result()


def _memory_of_merge(run: CommittedRun) -> int:
    import pyarrow.compute
    import pyarrow.csv  # noqa: F401

    # According to the manual of /proc, this resets the peak.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident_bytes("VmRSS")
    merge_run(run.folder, manifest=run.manifest)
    return _resident_bytes("VmHWM") - before


def _resident_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def merging(scale: float) -> list[Comparison]:
    large = int(LARGE[0] * scale), LARGE[1]
    many = int(MANY[0] * scale), MANY[1]
    work = f"merge of {large[0] * large[1] / 2**30:.2g} GiB in {large[0]:,} mini-batches"
    peer = "`cat` of the same bytes, then `sync`"
    why_many = "Merge also reads, verifies and sorts the records of mini-batches, which are almost as long as the rows"
    why_reports = (
        "A line of processed_mini-batches.csv is longer than a row, and writing its three decimal fractions takes "
        "about as much CPU time as the goal allows for the entire merge"
    )
    return [
        Comparison(
            work,
            peer,
            1.3,
            lambda: merge_s(*large),
            lambda: cat_s(*large),
            reason="Checksums are computed during the copy, which needs a second idle core",
        ),
        Comparison(
            f"{work}: its memory",
            "a limit",
            1.0,
            lambda: float(merge_memory_bytes(*large)),
            lambda: float(100 << 20),
            unit="MiB",
            rounds=1,
        ),
        Comparison(
            f"publication of {many[0]:,} rows of {many[1]} bytes, one a mini-batch, in mixed order",
            peer,
            3.0,
            lambda: publish_s(*many),
            lambda: cat_s(*many),
            reason=why_many,
        ),
        Comparison(
            "all of their merge, with the reports",
            peer,
            3.0,
            lambda: merge_s(*many),
            lambda: cat_s(*many),
            reason=why_reports,
        ),
    ]
