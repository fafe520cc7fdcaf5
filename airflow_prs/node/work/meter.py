"""What a node does, counted for Airflow's metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from airflow_prs.records import Outcome


class Meter:
    """
    Adds up what a node does itself: mini-batches of a loan count where they run.

    Threads that stage add to it, too. Times are added as seconds and returned as milliseconds.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._run_s = self._commit_s = 0.0
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count_outcome(self, outcome: Outcome) -> None:
        """Count a mini-batch that succeeded or failed."""
        with self._lock:
            self._counts["mini_batches"] += 1
            self._counts["failed_mini_batches"] += outcome.has_failed
            self._counts["items"] += outcome.items
            self._counts["failed_items"] += outcome.items - outcome.succeeded

    def count_try(self, run_s: float, *, has_failed: bool) -> None:
        """Count a try, of a mini-batch or of a part of one."""
        with self._lock:
            self._counts["tries"] += 1
            self._counts["failed_tries"] += has_failed
            self._run_s += run_s

    def count_commit(self, seconds: float) -> None:
        """Count a commit."""
        with self._lock:
            self._counts["commits"] += 1
            self._commit_s += seconds

    def count_staged(self, size_bytes: int) -> None:
        """Count bytes read from object storage into local copies."""
        with self._lock:
            self._counts["staged_bytes"] += size_bytes

    def take(self) -> Mapping[str, int]:
        """Return what was added since the last call, without zeros."""
        with self._lock:
            # Differences of rounded totals, so that their sum is the rounded total.
            total = self._counts + Counter(run_ms=int(self._run_s * 1000), commit_ms=int(self._commit_s * 1000))
            added, self._taken = total - self._taken, total
            return added
