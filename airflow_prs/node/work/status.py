"""Writes status.json of an attempt or a loan: how far it is, in a few KiB whatever the size of the shard."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_prs.node.work.failed_tries import Failure
from airflow_prs.records import SCHEMA, Outcome, Progress, Shard
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_BINS = 400
LAST_FAILURES = 5
MOST_SLOW = 10
"""How many of the slowest mini-batches are shown."""
_LONGEST_ERROR = 500


class StatusBoard:
    """
    Collects what status.json of an attempt shows: counts, rates, the last failures, and which mini-batches are done.

    The latter are counted in at most 400 bins of the entire run, so that those of all shards add up; see run_status.py.

    :param key: of the file, which is replaced atomically.
    :param total: mini-batches of the entire run.
    :param node: ``<host>-<shard>-<try>``.
    :param done: by position in the shard: which mini-batches had an outcome when the attempt opened.
    :param failed: likewise, which of them had failed.
    """

    def __init__(
        self,
        folder: RunFolder,
        key: str,
        shard: Shard,
        total: int,
        node: str,
        *,
        done: npt.NDArray[Any],
        failed: npt.NDArray[Any],
    ) -> None:
        self._folder = folder
        self._key = key
        self._shard = shard
        self._total = total
        self._node = node
        self._began = time.monotonic()
        self._bins = min(MOST_BINS, total)
        self._first = shard.first * self._bins // total
        self._done = self._count_in_bins(done)
        self._failed = self._count_in_bins(failed)
        self._processes: dict[int, list[float]] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=LAST_FAILURES)
        self._slowest: list[tuple[float, int, str]] = []

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of a mini-batch."""
        place = outcome.index * self._bins // self._total - self._first
        self._done[place] += 1
        self._failed[place] += outcome.has_failed
        if not outcome.has_failed:
            counts = self._processes.setdefault(outcome.process, [0, 0.0])
            counts[0] += 1
            counts[1] += outcome.run_s
            self._note_slow(outcome)

    def note(self, failure: Failure) -> None:
        """Keep a failed try as one of the last ones."""
        self._failures.append(
            {
                "at": failure.started + failure.duration_s,
                "mini_batch": failure.assignment.mini_batch.index,
                "try": failure.assignment.try_number,
                "status": failure.status.name,
                "error": failure.error[:_LONGEST_ERROR],
                "node": self._node,
                "process": failure.process,
            }
        )

    def _note_slow(self, outcome: Outcome) -> None:
        found = (outcome.duration_s, outcome.index, _name(outcome.process))
        if len(self._slowest) < MOST_SLOW:
            heapq.heappush(self._slowest, found)
        elif found > self._slowest[0]:
            heapq.heapreplace(self._slowest, found)

    def add(self, shown: Mapping[str, Any]) -> None:
        """Add what the status.json of a loan shows whose mini-batches now count here."""
        bins = shown["bins"]
        for own, lent in ((self._done, bins["done"]), (self._failed, bins["failed"])):
            for place, count in enumerate(lent, bins["first"] - self._first):
                own[place] += count
        self._failures.extend(shown["last_failures"])

    def write(
        self,
        progress: Progress,
        *,
        record: int,
        working: Mapping[str, tuple[int, float]] | None = None,
        usage: Mapping[str, float] | None = None,
    ) -> None:
        """
        Write the file.

        :param record: number of the last record of the log, from which readers can read on.
        :param working: name of a process to the mini-batch that it works on, and since when (seconds since the epoch).
        :param usage: what the processes of the node use of the machine; None: not known, or shown elsewhere.
        """
        counts = {_name(number): counts for number, counts in sorted(self._processes.items())}
        working = working or {}
        seconds = max(time.monotonic() - self._began, 1e-3)
        here = sum(int(counts[0]) for counts in self._processes.values())
        status = {
            "schema": SCHEMA,
            "at": time.time(),
            "node": self._node,
            "shard": self._shard.number,
            "record": record,
            "progress": asdict(progress),
            "seconds": round(seconds, 1),
            "mini_batches_per_s": round(here / seconds, 3),
            "usage": dict(usage or {}),
            "processes": {
                name: _describe_process(*counts.get(name, (0, 0.0)), seconds=seconds, working=working.get(name))
                for name in sorted({*counts, *working})
            },
            "slowest": [
                {"mini_batch": index, "seconds": round(duration_s, 3), "node": self._node, "process": process}
                for duration_s, index, process in sorted(self._slowest, reverse=True)
            ],
            "bins": {"first": self._first, "done": self._done, "failed": self._failed},
            "last_failures": list(self._failures),
        }
        self._folder.write_status(status, self._key)

    def _count_in_bins(self, mask: npt.NDArray[Any]) -> list[int]:
        import numpy as np

        last = (self._shard.end - 1) * self._bins // self._total
        places = (np.flatnonzero(mask) + self._shard.first) * self._bins // self._total - self._first
        counts: list[int] = np.bincount(places, minlength=last - self._first + 1).tolist()
        return counts


def _name(process: int) -> str:
    return f"process{process:03d}"


def _describe_process(
    count: float, run_s: float, *, seconds: float, working: tuple[int, float] | None
) -> dict[str, Any]:
    mini_batch, since = working or (None, None)
    return {
        "mini_batches": int(count),
        "mini_batches_per_s": round(count / seconds, 3),
        "run_s": round(run_s, 3),
        "mini_batch": mini_batch,
        "since": since,
    }
