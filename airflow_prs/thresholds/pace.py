"""The pace of a shard or of an entire run: as text for task logs, as numbers for Airflow's task state store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_prs.records import Progress
from airflow_prs.wording import counted, duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How far the work is, and how fast it was during an interval.

    :param before: its counts at the beginning of the interval.
    :param now: its counts at the end.
    :param seconds: length of the interval.
    """

    before: Progress
    now: Progress
    seconds: float

    @property
    def _left(self) -> int:
        return self.now.total - self.now.done

    @property
    def _rate(self) -> float:
        return (self.now.done - self.before.done) / self.seconds

    def numbers(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "total": self.now.total,
            "done": self.now.done,
            "failed": self.now.failed,
            "left": self._left,
            "mini_batches_per_s": round(self._rate, 3),
        }

    def __str__(self) -> str:
        if self.now.done == self.now.total:
            return describe_progress(self.now)
        if not self._rate:
            return f"{describe_progress(self.now)}; none was done in the last {duration(self.seconds)}"
        rows = (self.now.elements - self.before.elements) / self.seconds
        return (
            f"{describe_progress(self.now)}; {self._rate:.3g} mini-batches and {rows:.4g} rows a second, "
            f"about {duration(self._left / self._rate)} to go"
        )


def describe_progress(progress: Progress) -> str:
    """Return how many mini-batches are done, and how many of them have failed."""
    total = counted(progress.total, "mini-batch is", "mini-batches are")
    return f"{progress.done:,} of {total} done" + (f", {progress.failed:,} of them failed" if progress.done else "")
