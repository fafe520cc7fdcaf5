"""Measure this package and a peer alternately, and format the result as a line of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

HEADER = "| work | beside | ours | the other | ratio | goal |\n|---|---|---|---|---|---|"
_BYTES = {"MiB": 2**20}


@dataclass(frozen=True)
class Comparison:
    """
    A row of the benchmark.

    :param goal: the highest acceptable ratio of our value to the other one.
    :param ours: returns our seconds, or bytes if the unit is MiB.
    :param other: returns the same for the peer, or a constant if the peer is a limit.
    :param rounds: how often both are measured.
    :param reason: why the goal is missed; shown only if it is missed.
    :param is_given_up: whether nobody tries to reach the goal any more, for that reason.
    """

    work: str
    peer: str
    goal: float
    ours: Callable[[], float]
    other: Callable[[], float]
    unit: str = "s"
    rounds: int = 3
    reason: str = ""
    is_given_up: bool = False

    def measure(self) -> str:
        """Measure both, and return the line of the table with the medians and their ratio."""
        pairs = [(self.ours(), self.other()) for _ in range(self.rounds)]
        ours, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = ours / other
        missed = " (missed, given up)" if self.is_given_up else " (missed)"
        verdict = "" if ratio <= self.goal else missed
        reason = f". {self.reason}" if verdict and self.reason else ""
        return (
            f"| {self.work}{reason} | {self.peer} | {self._shown(ours)} | {self._shown(other)} "
            f"| {ratio:.3g}{verdict} | {self.goal:g} |"
        )

    def _shown(self, value: float) -> str:
        if self.unit == "s" and value < 0.01:  # noqa: PLR2004 - below this, milliseconds are easier to read
            return f"{value * 1000:.3g} ms"
        return f"{value / _BYTES.get(self.unit, 1):.3g} {self.unit}"
