"""
Measure the cost of object storage: ``make bench-storage``.

``python -m benchmarks.object_storage requests staging`` measures only these groups and does not change the page. All
run against SeaweedFS on this machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from airflow_prs.errors import PrsError
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.running import run_node
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.watch import open_watch
from benchmarks.storage_places import stop, storage
from benchmarks.storage_proxy import count
from tests.shards import make_plan

HALF_A_SECOND = """
import time
def run(mini_batch):
    time.sleep(0.5)
    return list(mini_batch)
"""


def run_shards(folder: RunFolder, shards: int) -> list[BaseException | None]:
    """Run all shards of a plan at the same time, with a gatekeeper beside them, and return how each ended."""
    is_over = threading.Event()
    with ThreadPoolExecutor(shards + 1) as pool:
        pool.submit(_watch, folder, is_over)
        try:
            return list(pool.map(partial(_run_node, folder), range(shards)))
        finally:
            is_over.set()


def _run_node(folder: RunFolder, shard: int) -> BaseException | None:
    request = NodeRequest(
        folder=RunFolder(str(folder.path)),
        shard_number=shard,
        task_try=TaskTry(try_number=1),
        environ=dict(__import__("os").environ),
        logger=logging.getLogger("benchmarks.node"),
    )
    try:
        run_node(request)
    except PrsError as error:
        return error
    return None


def _watch(folder: RunFolder, is_over: threading.Event) -> None:
    watch = open_watch(RunFolder(str(folder.path)), Epoch(0, 0))
    while not is_over.wait(folder.intervals.run_look_s):
        watch.look(None)


def requests_of(shards: int, mini_batches: int, script: str, **config: object):
    with storage() as (_, proxy, place):
        folder = make_plan(
            str(place), script, mini_batches=mini_batches * shards, shards=shards, process_count_per_node=1, **config
        )
        proxy.take()
        began = time.time()
        ended = run_shards(folder, shards)
        end = time.time()
        found = proxy.take()
        print(ended, end - began, len(found))
        return began, end, found


if __name__ == "__main__":
    import sys

    shards, n = int(sys.argv[1]), int(sys.argv[2])
    try:
        began, end, found = requests_of(shards, n, HALF_A_SECOND)
        total = count(found)
        lasts = {r.key.rpartition("/")[0]: r.at for r in found if r.purpose == "commit"}
        firsts = [r.at for r in found if r.purpose == "rows"]
        begin, upto = firsts[shards], min(lasts.values()) - 1
        print(upto - begin)
        steady = count(found, begin=begin, end=upto)
        seconds = shards * (upto - begin)
        for name, number in sorted(total.items()):
            print(f"{name:40} {number:6} {steady[name] / seconds:8.3f}")
        print(sum(steady.values()) / seconds, sum(total.values()) / shards / (end - began))
        for k, v in Counter((r.method, r.key) for r in found if r.purpose == "other").most_common(40):
            print(v, k)
        import json

        json.dump([(r.at - began, r.method, r.key) for r in found], open("/tmp/obench-req.json", "w"))
    finally:
        stop()
