"""Measurements of ours beside those of a peer, in turn, and the lines of the table that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

HEADER = "| work | beside | ours | the other | ratio | goal |\n|---|---|---|---|---|---|"
_BYTES = {"MiB": 2**20}


@dataclass(frozen=True)
class Comparison:
    """
    What is measured.

    :param goal: what the ratio of ours to the other should at most be.
    :param ours: seconds of ours; bytes where the unit is MiB.
    :param other: the same of the peer; a constant where the peer is a limit.
    :param rounds: how often both are measured in turn.
    :param reason: why the goal is missed, shown where it is.
    """

    work: str
    peer: str
    goal: float
    ours: Callable[[], float]
    other: Callable[[], float]
    unit: str = "s"
    rounds: int = 3
    reason: str = ""

    def measure(self) -> str:
        """Measure, and give the line of the table: medians and their ratio."""
        pairs = [(self.ours(), self.other()) for _ in range(self.rounds)]
        ours, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = ours / other
        verdict = "" if ratio <= self.goal else " (missed)"
        reason = f". {self.reason}" if verdict and self.reason else ""
        return (
            f"| {self.work}{reason} | {self.peer} | {self._shown(ours)} | {self._shown(other)} "
            f"| {ratio:.3g}{verdict} | {self.goal:g} |"
        )

    def _shown(self, value: float) -> str:
        if self.unit == "s" and value < 0.01:  # noqa: PLR2004 - from here on milliseconds are easier to read
            return f"{value * 1000:.3g} ms"
        return f"{value / _BYTES.get(self.unit, 1):.3g} {self.unit}"
