"""Writes status.json of an attempt or a loan: how far it is, in a few KiB whatever the size of the shard."""

from __future__ import annotations

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

MOST_BINS = 100
LAST_FAILURES = 5
_LONGEST_ERROR = 500


class StatusBoard:
    """
    Collects what status.json of an attempt shows: counts, rates, the last failures, and which mini-batches are done.

    The latter are counted in at most 100 bins of the entire run, so that those of all shards add up; see run_status.py.

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

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of a mini-batch."""
        place = outcome.index * self._bins // self._total - self._first
        self._done[place] += 1
        self._failed[place] += outcome.has_failed
        if not outcome.has_failed:
            counts = self._processes.setdefault(outcome.process, [0, 0.0])
            counts[0] += 1
            counts[1] += outcome.run_s

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

    def add(self, shown: Mapping[str, Any]) -> None:
        """Add what the status.json of a loan shows whose mini-batches now count here."""
        bins = shown["bins"]
        for own, lent in ((self._done, bins["done"]), (self._failed, bins["failed"])):
            for place, count in enumerate(lent, bins["first"] - self._first):
                own[place] += count
        self._failures.extend(shown["last_failures"])

    def write(self, progress: Progress, *, record: int) -> None:
        """
        Write the file.

        :param record: number of the last record of the log, from which readers can read on.
        """
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
            "processes": {
                f"process{number:03d}": {
                    "mini_batches": int(counts[0]),
                    "mini_batches_per_s": round(counts[0] / seconds, 3),
                    "run_s": round(counts[1], 3),
                }
                for number, counts in sorted(self._processes.items())
            },
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
