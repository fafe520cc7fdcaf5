"""
What a running run shows to those who look from outside: status.json in the run folder, small whatever the run's size.

It is put together from what the shards committed and from the status.json of each newest attempt. Every node writes it
in turn: nothing is decided by it, so the last writer wins.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_prs.node.status import LAST_FAILURES, MOST_BINS
from airflow_prs.records import SCHEMA, Manifest, Progress
from airflow_prs.run_folder.attempt_records import Closing
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.run_folder.names import AttemptNames
from airflow_prs.store import files

_RUNNING = "running"
_MOST_NODES = 50
_SHARDS_EACH = 50
SHOW_S = 2.0
"""Seconds between two writings where one node runs, and there are at most 50 shards."""


class RunStatus:
    """
    Writes a run's status.json.

    One writing costs three small reads for each shard. So nodes write the more rarely the more of them run, and the
    more shards there are: over the entire run the cost of all of them together is linear in the number of shards.

    :param own: status.json of this node's attempt, whose age is by the clock of the storage.
    """

    def __init__(self, folder: RunFolder, manifest: Manifest, own: Path) -> None:
        self._folder = folder
        self._manifest = manifest
        self._own = own
        self._least = max(1.0, len(manifest.shards) / _SHARDS_EACH)
        self._writing = threading.Lock()

    def write(self) -> float:
        """
        Write what is true now, unless another node has lately.

        :return: after how many times SHOW_S to call this again.
        """
        with self._writing:
            if self._least > 1 and self._age_s() < SHOW_S * self._least:
                return 1.0
            states = self._states()
            self._write(states)
        return max(self._least, sum(_describe(state) == _RUNNING for state in states))

    def write_last(self, others: Iterable[ShardState]) -> None:
        """
        Write what is true when the last node has made its last commit; before that, nothing.

        Of nodes that end at the same moment the last one to commit finds all others ended.

        :param others: the other shards, as this node has read them some time ago.
        """
        with self._writing:
            if all(_has_ended(state) or _has_ended(self._folder.read_shard(state.shard)) for state in others):
                self._write(self._states())

    def _age_s(self) -> float:
        try:
            return self._own.stat().st_mtime - self._folder.names.status.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def _states(self) -> list[ShardState]:
        return [self._folder.read_shard(shard) for shard in self._manifest.shards]

    def _write(self, states: list[ShardState]) -> None:
        status = _combine(self._manifest, states, [status for state in states for status in self._read(state)])
        files.write_whole(self._folder.names.status, json.dumps(status, ensure_ascii=False).encode())

    def _read(self, state: ShardState) -> Iterator[dict[str, Any]]:
        """Read what a shard's newest attempt shows, and those who have taken mini-batches over from it."""
        if state.claim is None:
            return
        words = {state.claim.attempt: _describe(state)}
        words |= {x.loan.name: _RUNNING if x.loan.is_open else Closing.DONE.value for x in state.loans if x.loan.count}
        for name, word in words.items():
            names = AttemptNames(self._folder.names.shard(state.shard) / name)
            with contextlib.suppress(FileNotFoundError):
                yield {**json.loads(names.status.read_bytes()), "state": word}


def _combine(manifest: Manifest, states: list[ShardState], shown: list[dict[str, Any]]) -> dict[str, Any]:
    running = [status for status in shown if status["state"] == _RUNNING]
    failures = [failure for status in shown for failure in status["last_failures"]]
    return {
        "schema": SCHEMA,
        "at": time.time(),
        "progress": asdict(sum((state.progress for state in states), Progress())),
        "shards": Counter(_describe(state) for state in states),
        "mini_batches_per_s": round(sum(status["mini_batches_per_s"] for status in running), 3),
        "bins": _add_bins(manifest.mini_batches, shown),
        "nodes": [_describe_node(status) for status in (running or shown)[:_MOST_NODES]],
        "last_failures": sorted(failures, key=lambda failure: failure["at"])[-LAST_FAILURES:],
    }


def _add_bins(total: int, shown: Iterable[dict[str, Any]]) -> dict[str, Any]:
    count = min(MOST_BINS, total)
    sums = {"done": [0] * count, "failed": [0] * count}
    for status in shown:
        bins = status["bins"]
        for name, added in sums.items():
            for place, value in enumerate(bins[name], bins["first"]):
                added[place] += value
    return {"count": count, **sums}


def _describe_node(status: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "shard", "state", "at", "mini_batches_per_s", "processes")
    return {name: status[name] for name in names} | {
        "done": status["progress"]["succeeded"] + status["progress"]["failed"],
        "total": status["progress"]["total"],
    }


def _describe(state: ShardState) -> str:
    if state.claim is None:
        return "not begun"
    if state.commit is None or state.commit.closing is None:
        return _RUNNING
    return state.commit.closing.value


def _has_ended(state: ShardState) -> bool:
    return state.commit is not None and state.commit.closing is not None
