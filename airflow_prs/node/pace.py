"""The pace of a shard: as text for the task log, and as numbers for Airflow's task state store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_prs.records import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How far a shard is, and how fast it was during an interval.

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
        rows = (self.now.elements - self.before.elements) / self.seconds
        end = f"about {self._left / self._rate:.0f} seconds to go" if self._rate else "no end in sight yet"
        return (
            f"{self.now.done} of {self.now.total} mini-batches done, {self.now.failed} of them failed, "
            f"{self._left} left; {self._rate:.3g} mini-batches and {rows:.4g} rows a second, {end}"
        )
