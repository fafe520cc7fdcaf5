"""Short runs: the gatekeeper waits for their end within its task, since a deferral takes at least ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_prs.airflow_side.shard_states import ShardTaskStates
    from airflow_prs.records import Progress

LONGEST_S = 10.0
"""A deferral would take as long: see EXECUTION_LINGERS."""

_PACE_AFTER_S = 2.0
"""The first mini-batches tell little: half a second after one of 36 was seen, 35 more would take too long."""


class ShortRun:
    """
    Tells at each look of one execution of the gatekeeper whether the run may end soon.

    :param clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._idle_until = clock()
        self._first: int | None = None

    def may_end_soon(self, states: ShardTaskStates, progress: Progress) -> bool:
        """
        Return whether the run may end within ten seconds after the gatekeeper began.

        It is False while a shard waits for a slot, which the gatekeeper must not hold. The pace is that since the last
        look at which nothing had been done, as worker processes take a while to start; it counts after two seconds.

        :param states: of the shards. One of them runs.
        :param progress: of the run.
        """
        now = self._clock()
        if self._first is None:
            self._first = progress.done
        done = progress.done - self._first
        if not done:
            self._idle_until = now
        took_s = now - self._idle_until
        needs_s = (progress.total - progress.done) * took_s / done if took_s >= _PACE_AFTER_S else 0.0
        return not states.is_any_waiting and now + needs_s < self._began + LONGEST_S
