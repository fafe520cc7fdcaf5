"""Measure runs on object storage: how many requests they send, and how long an abort takes."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from airflow_prs.errors import RunAbortedError
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.running import run_node
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.watch import open_watch
from benchmarks.comparing import Comparison
from benchmarks.storage_places import storage
from benchmarks.storage_proxy import Request, count
from tests.shards import make_plan

WAITING = """
import time
def run(mini_batch):
    time.sleep({seconds})
    return list(mini_batch)
"""
FAILING = """
import os, pathlib, time
place = pathlib.Path({place!r})
def run(mini_batch, context):
    (place / str(os.getpid())).touch()
    if context.minibatch_index:
        time.sleep(600)
    while len(list(place.iterdir())) < {shards}:
        time.sleep(0.01)
    time.sleep(3)
    pathlib.Path({passed!r}).write_text(str(time.time()))
    raise ValueError("one too many")
"""
LATENCY_S = 0.03
MOST_PER_SHARD_SECOND = 4
MOST_PER_MILLION = 25_000
LONGEST_ABORT_S = 5


def run_shards(folder: RunFolder, shards: int) -> list[Exception | None]:
    """Run all shards at the same time, each in a thread, with a gatekeeper beside them; return how each ended."""
    is_over = threading.Event()
    with ThreadPoolExecutor(shards + 1) as pool:
        watching = pool.submit(_watch, folder, is_over)
        try:
            return list(pool.map(partial(_run_node, folder), range(shards)))
        finally:
            is_over.set()
            watching.result()


def _run_node(folder: RunFolder, shard: int) -> Exception | None:
    request = NodeRequest(
        folder=RunFolder(folder.path),
        shard_number=shard,
        task_try=TaskTry(try_number=1),
        environ=dict(os.environ),
        logger=logging.getLogger("benchmarks.node"),
    )
    try:
        run_node(request)
    except RunAbortedError as error:
        return error
    return None


def _watch(folder: RunFolder, is_over: threading.Event) -> None:
    watch = open_watch(RunFolder(folder.path), Epoch(0, 0))
    while not is_over.wait(folder.intervals.run_look_s):
        watch.look()


# Requests


def requests_of(shards: int, mini_batches: int, seconds: float) -> list[Request]:
    """
    Run shards with a process each, and return the requests of their nodes and the gatekeeper.

    :param mini_batches: of each shard.
    :param seconds: that a mini-batch takes.
    """
    with storage() as (_, proxy, place):
        script = WAITING.format(seconds=seconds)
        total = mini_batches * shards
        folder = make_plan(str(place), script, mini_batches=total, shards=shards, process_count_per_node=1)
        proxy.take()
        ended = run_shards(folder, shards)
        if any(ended):
            raise RuntimeError(f"the run was aborted, so there is nothing to measure: {ended}")
        return proxy.take()


def per_shard_second(shards: int, mini_batches: int, seconds: float) -> float:
    """
    Return the requests of each shard in a second in which all of them work, and print what they are for.

    :param mini_batches: of each shard.
    :param seconds: that a mini-batch takes.
    """
    found = requests_of(shards, mini_batches, seconds)
    commits = [(each.key.rpartition("/")[0], each.at) for each in found if each.purpose == "commit"]
    # From the second commit of the last shard to the one before the last commit of the first one.
    begin = max([at for log, at in commits if log == one][1] for one, _ in commits)
    end = min([at for log, at in commits if log == one][-2] for one, _ in commits)
    counts = count(found, begin=begin, end=end)
    for name, number in sorted(counts.items()):
        print(f"  {name}: {number / shards / (end - begin):.3f}", file=sys.stderr)
    return counts.total() / shards / (end - begin)


def requests(scale: float) -> list[Comparison]:
    return [
        Comparison(
            "requests of a shard in a second: 5 shards, mini-batches of 0.5 s, one process each",
            "a limit",
            1.0,
            lambda: per_shard_second(5, int(120 * scale), 0.5),
            lambda: MOST_PER_SHARD_SECOND,
            unit="requests",
            rounds=1,
        ),
        Comparison(
            "requests of 1,000,000 mini-batches, 2,000 a second in 10 shards (measured on 100,000)",
            "a limit",
            1.0,
            lambda: per_shard_second(10, int(10_000 * scale), 0.005) * 1_000_000 / 2000 * 10,
            lambda: MOST_PER_MILLION,
            unit="requests",
            rounds=1,
        ),
    ]


# Aborts


def abort_s(shards: int) -> float:
    """Return the seconds from the try that exceeds a threshold to the end of the last node."""
    with tempfile.TemporaryDirectory(prefix="airflow_prs-bench-") as local, storage(LATENCY_S) as (_, _, place):
        passed, at_work = Path(local, "passed"), Path(local, "at_work")
        at_work.mkdir()
        folder = make_plan(
            str(place),
            FAILING.format(passed=str(passed), place=str(at_work), shards=shards),
            mini_batches=2 * shards,
            shards=shards,
            process_count_per_node=1,
            run_invocation_timeout=600,
            run_max_try=1,
            allowed_failed_count=0,
        )
        ended = run_shards(folder, shards)
        seconds = time.time() - float(passed.read_text())
        if not all(ended):
            raise RuntimeError(f"not every node was stopped by the abort: {ended}")
        return seconds


def abort(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            f"an abort of {shards} shards, 30 ms a request: from the failure to the end of the last node",
            f"{LONGEST_ABORT_S} s",
            1.0,
            partial(abort_s, shards),
            lambda: LONGEST_ABORT_S,
        )
        for shards in (2, 10)
    ]
