"""How often a run writes to its storage and looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """
    How often a run writes to its storage and looks at it.

    Each look of a node reads the run log. What else it reads comes in turn: its own shard's log, the requests to it,
    and some other shards.

    :param commit_s: seconds between two commits of a node, at least.
    :param look_s: seconds between two looks of a node.
    :param turns: number of looks after which everything had its turn; 1: each look reads everything.
    :param others: other shards that are read at a turn.
    :param poll_s: seconds between two looks of a node that has nothing to do, for work that others may lend.
    :param run_look_s: seconds between two looks of the gatekeeper at all shards.
    :param status_s: seconds between two status.json of a shard.
    :param requests: how many requests to read shards are under way at the same time.
    """

    commit_s: float
    look_s: float
    turns: int
    others: int
    poll_s: float
    run_look_s: float
    status_s: float
    requests: int

    def is_turn(self, look: int, turn: int) -> bool:
        """Return whether a look reads what has some turn."""
        return (look - turn) % self.turns == 0


ON_FILES: Final = Intervals(
    commit_s=1.0, look_s=0.5, turns=1, others=4, poll_s=0.1, run_look_s=0.5, status_s=2.0, requests=1
)
"""On a file system, where a look at a file takes some microseconds, and over a network less than a millisecond."""

ON_OBJECTS: Final = Intervals(
    commit_s=3.0, look_s=1.0, turns=5, others=1, poll_s=1.0, run_look_s=2.0, status_s=10.0, requests=16
)
"""On object storage, where each request takes some 30 milliseconds and costs money: four a second for each node."""
