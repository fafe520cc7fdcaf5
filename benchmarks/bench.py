"""
Our cost beside what a user would write by hand, in one run, as ratios: ``make bench``.

Each row is measured in turn with its peer, three times, and shows the medians. The machine should have nothing else to
do; a ratio holds better than a time, but not on a machine that is busy with something else for one of the two.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow_prs.run_folder.folder import RunFolder
from tests.shards import Tries, make_plan

ROUNDS = 3
PROCESSES = 2
BASE_NAMES = """
import os
def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""
BUSY = """
import time
def run(mini_batch):
    end = time.process_time() + 0.02
    while time.process_time() < end: pass
    return mini_batch
"""


@dataclass(frozen=True)
class Row:
    """A line of the table: seconds of ours and of the peer, and what the ratio should at most be."""

    work: str
    peer: str
    goal: float
    ours_s: float
    peer_s: float

    def __str__(self) -> str:
        ratio = self.ours_s / self.peer_s
        verdict = "" if ratio <= self.goal else " (missed)"
        return (
            f"| {self.work} | {self.peer} | {self.ours_s:.3g} s | {self.peer_s:.3g} s | {ratio:.2f}{verdict} "
            f"| {self.goal:g} |"
        )


def base_names(mini_batch: list[str]) -> list[str]:
    return [os.path.basename(path) for path in mini_batch]


def run_shard(script: str, mini_batches: int, items: int) -> RunFolder:
    """Run a shard with two worker processes; the caller removes the folder's parent."""
    folder = make_plan(
        Path(tempfile.mkdtemp(prefix="airflow_prs-bench-")),
        script,
        mini_batches=mini_batches,
        items=items,
        process_count_per_node=PROCESSES,
    )
    Tries(folder).run()
    return folder


def work_s(folder: RunFolder) -> float:
    """Seconds from the first run() to the last commit, so without starting processes and init()."""
    shard = folder.read_manifest().shards[0]
    started = folder.read_outcomes(shard)["started"].min()
    state = folder.read_shard(shard)
    return state.commit.at - float(started) if state.commit is not None else 0.0


def shard_s(script: str, mini_batches: int, items: int) -> float:
    folder = run_shard(script, mini_batches, items)
    try:
        return work_s(folder)
    finally:
        shutil.rmtree(folder.path.parent)


def pool_s() -> float:
    work = [[f"item-{i * 10 + k}" for k in range(10)] for i in range(2000)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(base_names, work[:20]))
        began = time.monotonic()
        list(pool.map(base_names, work, chunksize=1))
        return time.monotonic() - began


def command_s(*code: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "; ".join(code)], check=True)
    return time.monotonic() - began


def start_s() -> float:
    """Seconds from run_node() to the first run(), for files."""
    began = time.time()
    folder = run_shard("def run(mini_batch): return mini_batch\n", 1, 1)
    try:
        return float(folder.read_outcomes(folder.read_manifest().shards[0])["started"].min()) - began
    finally:
        shutil.rmtree(folder.path.parent)


def import_s(package: str) -> float:
    """Seconds that an import takes where Airflow is imported already."""
    code = f"import airflow.sdk, time; t = time.monotonic(); {package}; print(time.monotonic() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure(work: str, peer: str, goal: float, ours: Callable[[], float], other: Callable[[], float]) -> Row:
    pairs = [(ours(), other()) for _ in range(ROUNDS)]
    return Row(work, peer, goal, *(statistics.median(times) for times in zip(*pairs, strict=True)))


def main() -> None:
    rows = [
        measure(
            "2,000 mini-batches of 10 paths, base names, durable",
            "ProcessPoolExecutor.map, chunksize 1, nothing durable",
            0.5,
            lambda: shard_s(BASE_NAMES, 2000, 10),
            pool_s,
        ),
        measure(
            "200 mini-batches of 20 ms CPU",
            "CPU seconds / processes",
            1.05,
            lambda: shard_s(BUSY, 200, 1),
            lambda: 200 * 0.02 / PROCESSES,
        ),
        measure(
            "a mini-batch among 100,000",
            "a mini-batch among 1,000",
            1.2,
            lambda: shard_s(BASE_NAMES, 100_000, 10) / 100_000,
            lambda: shard_s(BASE_NAMES, 1000, 10) / 1000,
        ),
        measure(
            "a shard's start, to its first run()",
            'python -c "import pandas, pyarrow"',
            1.5,
            start_s,
            lambda: command_s("import pandas", "import pyarrow"),
        ),
        measure(
            "import of airflow_prs in a DAG file, Airflow imported already",
            "import of pydantic in a fresh Python",
            1.0,
            lambda: import_s("from airflow_prs import FileDataset, ParallelRunConfig, ParallelRunOperator"),
            lambda: command_s("import pydantic", "pydantic.BaseModel") - command_s("pass"),
        ),
    ]
    print("| work | beside | ours | the other | ratio | goal |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
