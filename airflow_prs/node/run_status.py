"""
Writes status.json of the run: how far the run is, in a few KiB whatever its size.

It is put together from what a node knows of all shards and from the status.json of each shard and open loan. No
decision depends on it, so each node may replace it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from airflow_prs.node.work.status import LAST_FAILURES, MOST_BINS
from airflow_prs.records import SCHEMA, Manifest, Progress
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import loan_status, shard_status
from airflow_prs.run_folder.shard_log import ShardState

_RUNNING = "running"
_MOST_NODES = 50


def write_run_status(folder: RunFolder, manifest: Manifest, states: list[ShardState]) -> None:
    """
    Write status.json of the run.

    :param states: of all shards.
    """
    words = {key: word for state in states for key, word in _keys(state)}
    read = zip(words.values(), folder.read_statuses(words), strict=True)
    shown = [{**status, "state": word} for word, status in read if status is not None]
    running = [status for status in shown if status["state"] == _RUNNING]
    failures = [failure for status in shown for failure in status["last_failures"]]
    status = {
        "schema": SCHEMA,
        "at": time.time(),
        "progress": asdict(sum((state.progress for state in states), Progress())),
        "shards": Counter(map(_describe, states)),
        "mini_batches_per_s": round(sum(status["mini_batches_per_s"] for status in running), 3),
        "bins": _add_bins(min(MOST_BINS, manifest.mini_batches), shown),
        "nodes": [_describe_node(status) for status in (running or shown)[:_MOST_NODES]],
        "last_failures": sorted(failures, key=lambda failure: failure["at"])[-LAST_FAILURES:],
    }
    folder.write_status(status)


def _keys(state: ShardState) -> Iterator[tuple[str, str]]:
    """Yield the key of status.json of a shard and of its open loans, and the word for its state."""
    if state.claim is None:
        return
    number = state.shard.number
    yield shard_status(number), _describe(state)
    for loan in state.loans:
        yield loan_status(number, loan.loan.number), _RUNNING


def _add_bins(count: int, shown: Iterable[dict[str, Any]]) -> dict[str, Any]:
    sums = {"done": [0] * count, "failed": [0] * count}
    for status in shown:
        for name, added in sums.items():
            for place, value in enumerate(status["bins"][name], status["bins"]["first"]):
                added[place] += value
    return {"count": count, **sums}


def _describe_node(status: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "shard", "state", "at", "mini_batches_per_s", "processes")
    progress = status["progress"]
    done = progress["succeeded"] + progress["failed"]
    return {**{name: status[name] for name in names}, "done": done, "total": progress["total"]}


def _describe(state: ShardState) -> str:
    if state.claim is None:
        return "not begun"
    return _RUNNING if state.closing is None else state.closing.value
