"""What a node hands out next: retries first, then mini-batches in input order as far as the last commit grants."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_prs.records import MiniBatch, Shard
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Hand:
    """
    A mini-batch and the number of the try that it is handed out for.

    :param try_number: from 1.
    :param is_alone: whether its process may hold nothing else meanwhile, since it may have been what killed one.
    """

    mini_batch: MiniBatch
    try_number: int
    is_alone: bool = False


class WorkQueue:
    """
    The mini-batches of a shard that have no outcome yet.

    :param done: by position in the shard: has an outcome, or is somebody else's business.
    :param tries: failed tries so far, by index.
    :param granted: index below which mini-batches may be handed out.
    :param clock: seconds, for tries that wait.

    ``end`` is one past the index of the last mini-batch that is still its business.
    """

    def __init__(
        self,
        folder: RunFolder,
        shard: Shard,
        *,
        done: npt.NDArray[Any],
        tries: dict[int, int],
        granted: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.granted = granted
        self.end = shard.end
        self._shard = shard
        self._done = done
        self._tries = tries
        self._clock = clock
        self._again: deque[Hand] = deque()
        self._waiting: list[tuple[float, int, Hand]] = []
        self._order = itertools.count()
        self._unread = int((~done).sum())
        self._fresh = self._read(folder, done)
        self._next: MiniBatch | None = next(self._fresh, None)

    def __len__(self) -> int:
        """Count what is left: granted or not, waiting for its next try or not."""
        return len(self._again) + len(self._waiting) + self._unread

    @property
    def left_of_grant(self) -> float:
        """How many indices are granted and not yet handed out; infinite where all that is left is granted."""
        if self._next is None or self.granted >= self.end:
            return math.inf
        return self.granted - self._next.index

    @property
    def has_waited(self) -> bool:
        """Whether a try that had to wait may begin."""
        return bool(self._waiting) and self._waiting[0][0] <= self._clock()

    def take(self, *, may_be_alone: bool) -> Hand | None:
        """
        Take what is next.

        :param may_be_alone: whether whoever takes it holds nothing else.
        :return: None: nothing is left, not granted, or not for this taker.
        """
        while self.has_waited:
            self._again.append(heapq.heappop(self._waiting)[2])
        if self._again:
            return self._again.popleft() if may_be_alone or not self._again[0].is_alone else None
        mini_batch = self._next
        if mini_batch is None or mini_batch.index >= self.granted:
            return None
        self._unread -= 1
        self._next = next(self._fresh, None)
        return Hand(mini_batch, self._tries.pop(mini_batch.index, 0) + 1)

    def put_back(self, hands: list[Hand]) -> None:
        """Give back what came to nothing through no fault of its own, to be taken first."""
        self._again.extendleft(reversed(hands))

    def try_again(self, hand: Hand, after_s: float) -> None:
        """Queue the next try of a mini-batch that failed one."""
        following = replace(hand, try_number=hand.try_number + 1)
        if after_s > 0:
            heapq.heappush(self._waiting, (self._clock() + after_s, next(self._order), following))
        else:
            self._again.append(following)

    def extend_grant(self, window: int) -> int:
        """Say how far the next commit grants: ``window`` indices beyond what was handed out."""
        if self._next is None:
            return self.end
        return max(self.granted, min(self.end, self._next.index + window))

    def give_up(self) -> tuple[int, int]:
        """
        Part for good with some of what was never handed out: a third, or as much as lies together at the end.

        :return: index of the first one, and one past the last one; the same: there is nothing to part with.
        """
        if self._next is None or self._next.index >= self.end:
            return 0, 0
        import numpy as np

        begin = self._next.index
        pending = np.flatnonzero(~self._done[begin - self._shard.first : self.end - self._shard.first]) + begin
        # Those that were tried before stay: their tries are counted here.
        tried = np.isin(pending, list(self._tries))
        behind = np.flatnonzero(tried | (np.diff(pending, prepend=pending[0] - 1) != 1))
        together = len(pending) - (0 if not len(behind) else int(behind[-1]) + int(tried[behind[-1]]))
        count = min(together, max(1, len(pending) // 3))
        if not count:
            return 0, 0
        first, end = int(pending[-count]), int(pending[-1]) + 1
        self._unread -= count
        self.end, self.granted = first, min(self.granted, first)
        return first, end

    def _read(self, folder: RunFolder, done: npt.NDArray[Any]) -> Iterator[MiniBatch]:
        first = self._shard.first
        for mini_batch in folder.read_mini_batches(first, self._shard.end):
            if not done[mini_batch.index - first]:
                yield mini_batch
