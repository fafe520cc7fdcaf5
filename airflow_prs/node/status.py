"""What a running shard shows to those who look from outside: one file that stays small whatever the shard's size."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.node.protocols import Failure
from airflow_prs.records import SCHEMA, Outcome, Progress, Shard
from airflow_prs.run_folder import files

if TYPE_CHECKING:
    import numpy.typing as npt

BINS = 100
_LAST_FAILURES = 5


class StatusBoard:
    """
    Keeps what status.json says: counts, rates, the last failures, and the state of the shard in at most 100 bins.

    :param path: of the file; it appears whole each time.
    :param node: ``<host>-<shard>-<try>``.
    :param done: by position in the shard: which mini-batches had an outcome when the attempt opened.
    """

    def __init__(self, path: Path, shard: Shard, node: str, done: npt.NDArray[Any]) -> None:
        import numpy as np

        self._path = path
        self._shard = shard
        self._node = node
        self._began = time.monotonic()
        self._bins = min(BINS, shard.count)
        places = np.flatnonzero(done) * self._bins // max(shard.count, 1)
        self._done = np.bincount(places, minlength=self._bins).tolist()
        self._failed = [0] * self._bins
        self._processes: dict[int, list[float]] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=_LAST_FAILURES)

    def count(self, outcome: Outcome) -> None:
        """Take the outcome of a mini-batch."""
        place = (outcome.index - self._shard.first) * self._bins // self._shard.count
        self._done[place] += 1
        self._failed[place] += outcome.has_failed
        if not outcome.has_failed:
            counts = self._processes.setdefault(outcome.process, [0, 0.0])
            counts[0] += 1
            counts[1] += outcome.run_s

    def note(self, failure: Failure) -> None:
        """Take a failed try."""
        self._failures.append(
            {
                "mini_batch": failure.hand.mini_batch.index,
                "try": failure.hand.try_number,
                "status": failure.status.name,
                "error": failure.error[:500],
                "process": failure.process,
            }
        )

    def write(self, progress: Progress) -> None:
        """Write the file."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        here = sum(int(counts[0]) for counts in self._processes.values())
        status = {
            "schema": SCHEMA,
            "at": time.time(),
            "node": self._node,
            "shard": {"number": self._shard.number, "first": self._shard.first, "count": self._shard.count},
            "progress": {name: getattr(progress, name) for name in progress.__slots__},
            "seconds": round(seconds, 1),
            "mini_batches_per_s": round(here / seconds, 3),
            "processes": {
                f"process{number:03d}": {"mini_batches": int(counts[0]), "run_s": round(counts[1], 3)}
                for number, counts in sorted(self._processes.items())
            },
            "bins": {"size": self._shard.count / self._bins, "done": self._done, "failed": self._failed},
            "last_failures": list(self._failures),
        }
        files.write_whole(self._path, json.dumps(status, ensure_ascii=False).encode())
