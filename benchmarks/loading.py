"""Measure whether tables are loaded while run() works."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from airflow_prs.cli.job import Job, plan_job
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.folder import RunFolder
from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder, work_s
from tests.shards import Tries

MINI_BATCHES, ROWS, COLUMNS = 200, 20_000, 10

SLEEP = """
import time
def run(mini_batch):
    time.sleep({seconds})
    return [len(mini_batch)]
"""


@functools.cache
def make_table(scale: float) -> Path:
    """Write a CSV file of floats for each mini-batch. The folder is removed when Python ends."""
    import numpy as np
    import pandas as pd

    path = Path(tempfile.mkdtemp(prefix="airflow_prs-bench-"))
    atexit.register(shutil.rmtree, path)
    random = np.random.default_rng(5)
    text = pd.DataFrame(random.normal(size=(ROWS, COLUMNS)), columns=[f"x{n}" for n in range(COLUMNS)]).to_csv(
        index=False
    )
    for number in range(int(MINI_BATCHES * scale)):
        Path(path, f"{number:03}.csv").write_text(text)
    return path


def run_shard(path: Path, table: Path, *, seconds: float, reads_ahead: bool) -> RunFolder:
    """Run a shard whose run() sleeps, and return its folder."""
    (path / "sleep.py").write_text(SLEEP.format(seconds=seconds), encoding="utf-8")
    config = ParallelRunConfig(
        environment=Environment.current(),
        source_directory=str(path),
        entry_script="sleep.py",
        error_threshold=-1,
        output_action="append_row",
        compute_target="local",
        node_count=1,
        process_count_per_node=PROCESSES,
        mini_batch_size=f"{ROWS} rows",
        read_ahead=reads_ahead,
    )
    inputs = (TabularDataset.from_delimited_files(str(table)).as_named_input("rows"),)
    job = Job(config=config, name="sleep", base=str(path), inputs=inputs, side_inputs=(), arguments=())
    folder = plan_job(job, str(path / "out"), nodes=None).folder
    Tries(folder).run()
    return folder


def times_s(folder: RunFolder) -> tuple[float, float]:
    """Return the seconds of loading and of run() for each process."""
    committed = read_committed(folder, folder.read_manifest())
    outcomes = committed.outcomes(committed.states[0])
    run_s = float(outcomes["run_s"].sum())
    return (float(outcomes["duration_s"].sum()) - run_s) / PROCESSES, run_s / PROCESSES


@functools.cache
def load_s(table: Path) -> float:
    """Return the seconds that a mini-batch takes to load beside another process."""
    with new_folder() as path:
        folder = run_shard(path, table, seconds=0, reads_ahead=False)
        return times_s(folder)[0] * PROCESSES / len(list(table.iterdir()))


def ours_s(table: Path) -> float:
    """Return the seconds from the first load to the last commit, if run() takes as long as loading."""
    with new_folder() as path:
        return work_s(run_shard(path, table, seconds=load_s(table), reads_ahead=True))


def longer_part_s(table: Path) -> float:
    """Return the seconds of loading or of run(), whichever is more, of the same work without reading ahead."""
    with new_folder() as path:
        return max(times_s(run_shard(path, table, seconds=load_s(table), reads_ahead=False)))


def loading(scale: float) -> list[Comparison]:
    return [
        Comparison(
            f"W5: {int(MINI_BATCHES * scale)} mini-batches of {ROWS:,} rows of CSV, run() sleeps as long as loading",
            "the larger of loading and run() without reading ahead / processes",
            1.1,
            lambda: ours_s(make_table(scale)),
            lambda: longer_part_s(make_table(scale)),
        )
    ]
