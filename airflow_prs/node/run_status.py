"""
What a running run shows to those who look from outside: status.json in the run folder, small whatever the run's size.

It is put together from what the shards committed and from the status.json of each newest attempt. Every node writes it
in turn: nothing is decided by it, so the last writer wins.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from airflow_prs.node.status import LAST_FAILURES, MOST_BINS
from airflow_prs.records import SCHEMA, Closing, Manifest, Progress
from airflow_prs.run_folder import files
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.run_folder.names import AttemptNames

_RUNNING = "running"
_MOST_NODES = 50
_ENOUGH_ROUNDS = 3


class RunStatus:
    """
    Writes a run's status.json.

    One writing costs three small reads for each shard, so a node that waits longer the more nodes are running keeps the
    cost of all of them together linear in the number of shards.
    """

    def __init__(self, folder: RunFolder, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    def write(self) -> int:
        """
        Write what is true now.

        :return: how many nodes are running.
        """
        states = self._states()
        self._write(states)
        return sum(_describe(state) == _RUNNING for state in states)

    def write_last(self) -> None:
        """
        Write what is true when a node has made its last commit.

        Another node that ends at the same moment may have read this shard before that and write after it: so whoever
        has written looks again.
        """
        for _ in range(_ENOUGH_ROUNDS):
            written = self._states()
            self._write(written)
            if _ends(self._states()) == _ends(written):
                return

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


def _ends(states: Iterable[ShardState]) -> list[tuple[str, str]]:
    return [(state.claim.attempt if state.claim is not None else "", _describe(state)) for state in states]
