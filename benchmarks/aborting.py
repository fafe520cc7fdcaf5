"""Measure how long two nodes continue after a threshold is exceeded, while every process is inside run()."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder
from tests.airflow_services import wait_until
from tests.node_process import start_node
from tests.shards import make_plan

SHARDS = 2
SCRIPT = """
import os, pathlib, time
place = pathlib.Path({place!r})
def run(mini_batch, context):
    (place / str(os.getpid())).touch()
    if context.minibatch_index:
        time.sleep(600)
    while len(list(place.iterdir())) < {processes}:
        time.sleep(0.01)
    time.sleep(1)
    (place.parent / "passed").write_text(str(time.time()))
    raise ValueError("one too many")
"""


def abort_s() -> float:
    """Return the seconds from the failure that exceeds the threshold, in one shard, to the end of the last process."""
    with new_folder() as path:
        place = path / "processes"
        place.mkdir()
        script = SCRIPT.format(place=str(place), processes=SHARDS * PROCESSES)
        folder = make_plan(
            path,
            script,
            mini_batches=2 * SHARDS * PROCESSES,
            shards=SHARDS,
            process_count_per_node=PROCESSES,
            run_invocation_timeout=600,
            run_max_try=1,
            allowed_failed_count=0,
        )
        nodes = [start_node(folder.path, 1, shard) for shard in range(SHARDS)]
        try:
            wait_until((path / "passed").exists, "the failure", every=0.01)
            at_work = [psutil.Process(node.pid) for node in nodes] + _processes(place)
            for node in nodes:
                node.communicate()
            psutil.wait_procs(at_work, timeout=60)
            return time.time() - float((path / "passed").read_text())
        finally:
            for node in nodes:
                node.kill()
                node.wait()


def _processes(place: Path) -> list[psutil.Process]:
    numbers = [int(entry.name) for entry in place.iterdir()]
    return [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]


def abort(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "an abort of two shards: from a threshold being passed to the last process gone",
            "2 s",
            1.0,
            abort_s,
            lambda: 2.0,
        )
    ]
