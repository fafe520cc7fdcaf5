"""Run shards without Airflow, and measure how long their work takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.folder import RunFolder
from tests.shards import Tries, make_plan

PROCESSES = 2


@contextmanager
def new_folder() -> Iterator[Path]:
    """Create a folder, and remove it with its contents at the end."""
    path = Path(tempfile.mkdtemp(prefix="airflow_prs-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def work_s(folder: RunFolder) -> float:
    """
    Return the seconds from the first run() to the last commit, without the start of processes and init().

    :raises RuntimeError: if a mini-batch failed, because failures are fast and would distort the measurement.
    """
    committed = read_committed(folder, folder.read_manifest())
    counts = [state.progress for state in committed.states]
    if any(progress.succeeded < progress.total for progress in counts):
        raise RuntimeError(f"not every mini-batch succeeded, so there is nothing to measure: {counts}")
    started = min(float(committed.outcomes(state)["started"].min()) for state in committed.states)
    return max(state.record.at for state in committed.states if state.record is not None) - started


def shard_s(script: str, *, mini_batches: int, items: int) -> float:
    """Run a shard, and return the seconds of its work."""
    with new_folder() as path:
        folder = make_plan(path, script, mini_batches=mini_batches, items=items, process_count_per_node=PROCESSES)
        Tries(folder).run()
        return work_s(folder)


def shard_in_new_process(script: str, *, mini_batches: int, items: int) -> tuple[float, float]:
    """Run a shard, and return the seconds of its work and the peak of its supervisor's memory in bytes."""
    with new_folder() as path, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        folder = make_plan(path, script, mini_batches=mini_batches, items=items, process_count_per_node=PROCESSES)
        # Plan runs in this process, and the node in a new one, so that the peak is only that of the node.
        used = pool.submit(_run_shard, str(folder.path)).result()
        return work_s(folder), used


def _run_shard(folder: str) -> float:
    Tries(RunFolder(folder)).run()
    # ru_maxrss would be at least what the process that started this one used.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024.0
