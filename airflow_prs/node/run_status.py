"""
Writes status.json of the run: how far the run is, in a few KiB whatever its size.

It is put together from what a node knows of all shards and from the status.json of each shard and open loan. No
decision depends on it, so each node may replace it.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from airflow_prs.node.work.status import LAST_FAILURES, MOST_BINS, MOST_SLOW
from airflow_prs.records import SCHEMA, Manifest, Progress
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import RUN_STATUS, loan_status, shard_status
from airflow_prs.run_folder.shard_log import ShardState

_RUNNING = "running"
_MOST_NODES = 50
_MOST_POINTS = 120


class RunStatus:
    """
    Writes status.json of the run.

    What was some time ago is carried on from the file that was there before, whichever node has written it.
    """

    def __init__(self, folder: RunFolder, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._written: object = None
        self._history: list[dict[str, Any]] = []

    def stat(self) -> object:
        """Return the version of the file; None: there is none."""
        return self._folder.store.stat(RUN_STATUS)

    def write(self, states: list[ShardState], found: object) -> object:
        """
        Write the file, and return its version.

        :param states: of all shards.
        :param found: version of the file that is there; see stat().
        """
        if found is not None and found != self._written:
            self._history = (self._folder.read_status() or {}).get("history", [])
        status = self._describe(states)
        self._history = status["history"]
        self._folder.write_status(status)
        self._written = self.stat()
        return self._written

    def _describe(self, states: list[ShardState]) -> dict[str, Any]:
        sources = [source for state in states for source in _sources(state)]
        read = zip(sources, self._folder.read_statuses(source.key for source in sources), strict=True)
        shown = [
            {**status, "state": source.word, "is_loan": source.is_loan} for source, status in read if status is not None
        ]
        running = [status for status in shown if status["state"] == _RUNNING]
        ended = [status for status in shown if status["state"] != _RUNNING]
        failures = [failure for status in shown for failure in status["last_failures"]]
        slow = [each for status in shown for each in status.get("slowest", ())]
        progress = sum((state.progress for state in states), Progress())
        point = {
            "at": time.time(),
            "done": progress.done,
            "failed": progress.failed,
            "rate": round(sum(status["mini_batches_per_s"] for status in running), 3),
            "cpu_percent": _add_usage(running, "cpu_percent"),
            "memory_bytes": _add_usage(running, "memory_bytes"),
        }
        return {
            "schema": SCHEMA,
            "at": point["at"],
            "progress": asdict(progress),
            "shards": Counter(map(_describe, states)),
            "mini_batches_per_s": point["rate"],
            "bins": _add_bins(min(MOST_BINS, self._manifest.mini_batches), shown),
            "nodes": [_describe_node(status) for status in (*running, *ended)[:_MOST_NODES]],
            "last_failures": sorted(failures, key=lambda failure: failure["at"])[-LAST_FAILURES:],
            "slowest": heapq.nlargest(MOST_SLOW, slow, key=lambda each: float(each["seconds"])),
            "history": add_point(self._history, point),
        }


def add_point(history: Sequence[dict[str, Any]], point: dict[str, Any]) -> list[dict[str, Any]]:
    """
    Return a history with one more point, at most 120 that are spread evenly over the entire time.

    The newest point is always there; the one before is left out if it is too close to the one before that.
    """
    points = [*history]
    if len(points) > 1 and points[-1]["at"] - points[-2]["at"] < (point["at"] - points[0]["at"]) / _MOST_POINTS:
        points.pop()
    points.append(point)
    return points if len(points) <= _MOST_POINTS else [*points[:-1:2], point]


def _add_usage(running: Iterable[dict[str, Any]], name: str) -> float | None:
    known = [status["usage"][name] for status in running if name in status.get("usage", ())]
    return round(sum(known), 1) if known else None


class _Source(NamedTuple):
    """
    A status.json of a shard or of a loan.

    :param word: the state of the shard.
    """

    key: str
    word: str
    is_loan: bool = False


def _sources(state: ShardState) -> Iterator[_Source]:
    """Yield where the status.json of a shard and of its open loans are."""
    if state.claim is None:
        return
    number = state.shard.number
    yield _Source(shard_status(number), _describe(state))
    for loan in state.loans:
        yield _Source(loan_status(number, loan.loan.number), _RUNNING, is_loan=True)


def _add_bins(count: int, shown: Iterable[dict[str, Any]]) -> dict[str, Any]:
    sums = {"done": [0] * count, "failed": [0] * count}
    for status in shown:
        for name, added in sums.items():
            for place, value in enumerate(status["bins"][name], status["bins"]["first"]):
                added[place] += value
    return {"count": count, **sums}


def _describe_node(status: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "shard", "state", "is_loan", "at", "mini_batches_per_s", "processes")
    progress = status["progress"]
    done = progress["succeeded"] + progress["failed"]
    return {
        **{name: status[name] for name in names},
        "done": done,
        "failed": progress["failed"],
        "total": progress["total"],
    }


def _describe(state: ShardState) -> str:
    if state.claim is None:
        return "not begun"
    return _RUNNING if state.closing is None else state.closing.value
