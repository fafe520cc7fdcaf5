"""Measure whether all processes work until the end if mini-batches take long."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

from airflow_prs.run_folder.folder import RunFolder
from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder, shard_s, work_s
from tests.airflow_services import running_airflow
from tests.dag_runs import DagFile

BUSY = """
import time
def run(mini_batch):
    end = time.process_time() + 0.02
    while time.process_time() < end: pass
    return mini_batch
"""
BUSY_MINI_BATCHES, BUSY_S = 200, 0.02

SHARDS = 2
SHAPE, SHORTEST_S, SLEEPS = 1.5, 0.02, 2000
SLEEP = """
import json, pathlib, time
SECONDS = json.loads((pathlib.Path(__file__).parent / "seconds.json").read_text())
def run(mini_batch, context):
    time.sleep(SECONDS[context.minibatch_index])
    return [context.minibatch_index]
"""
DAG_SOURCE = """
with DAG("heavy_tail", schedule=None):
    ParallelRunOperator(
        task_id="step",
        parallel_run_config=config(
            run_invocation_timeout=3600, node_count={shards}, process_count_per_node={processes}
        ),
        inputs=[],
        output={output!r},
        arguments=["--rank_mini_batch_count", "{mini_batches}"],
    )
"""
_RUN_S = 1800


def heavy_first() -> list[float]:
    """
    Return the seconds of all mini-batches. Those above the median are in the first half.

    The values are the quantiles of the distribution. In a random sample, one mini-batch may be as long as the ideal
    time of all together, and then the ratio would depend only on its position.
    """
    seconds = [SHORTEST_S * (1 - (place + 0.5) / SLEEPS) ** (-1 / SHAPE) for place in range(SLEEPS)]
    light, heavy = seconds[: SLEEPS // 2], seconds[SLEEPS // 2 :]
    draw = random.Random(6)
    draw.shuffle(light)
    draw.shuffle(heavy)
    return heavy + light


def ideal_s(seconds: list[float]) -> float:
    return max(sum(seconds) / (SHARDS * PROCESSES), *seconds)


@functools.cache
def under_a_scheduler_s() -> float:
    """Return the seconds from the first run() to the last commit of two shards that a scheduler runs in parallel."""
    with new_folder() as path, running_airflow(path / "home") as services:
        output = path / "out"
        file = DagFile(services.dags / "heavy_tail")
        file.script(SLEEP)
        file.script(json.dumps(heavy_first()), "seconds.json")
        file.write(DAG_SOURCE.format(shards=SHARDS, processes=PROCESSES, output=str(output), mini_batches=SLEEPS))
        services.wait_for_dag("heavy_tail")
        services.run("heavy_tail", seconds=_RUN_S)
        return work_s(_run_folder(output))


def _run_folder(output: Path) -> RunFolder:
    [manifest] = output.glob("_parallel_run/*/*/*/*/manifest.parquet")
    return RunFolder(manifest.parent)


def busy(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "W3: 200 mini-batches of 20 ms CPU",
            "CPU seconds / processes",
            1.05,
            lambda: shard_s(BUSY, mini_batches=BUSY_MINI_BATCHES, items=1),
            lambda: BUSY_MINI_BATCHES * BUSY_S / PROCESSES,
        )
    ]


def heavy_tail(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "W4: two shards under a scheduler, sleeps of a Pareto law (1.5), the heavy ones all in the first half",
            "the larger of all seconds / all processes and the longest one",
            1.15,
            under_a_scheduler_s,
            lambda: ideal_s(heavy_first()),
            rounds=1,
        )
    ]
