"""What a node hands out next: retries first, then mini-batches in input order as far as the last commit grants."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_prs.records import MiniBatch, Shard
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    import numpy.typing as npt

READ_AHEAD = 1024
"""Mini-batches that are read while as many others are handed out."""


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


class ReadAhead:
    """
    Reads mini-batches in a thread, some of them ahead, so that slow storage holds up nobody who takes them.

    :param source: is not used elsewhere; what it raises is raised where its mini-batch was to come.
    """

    def __init__(self, source: Iterator[MiniBatch]) -> None:
        self._source = source
        self._ready: deque[MiniBatch] = deque()
        self._is_awaited = False
        self._made = self._read()

    @property
    def has_arrived(self) -> bool:
        """Whether there is now what was not there when it was asked for."""
        return self._is_awaited and self._made.done()

    def take(self) -> MiniBatch | None:
        """Take the next one; None: it is not there yet."""
        if not self._ready:
            self._is_awaited = not self._made.done()
            if self._is_awaited:
                return None
            self._ready.extend(self._made.result())
            self._made = self._read()
        return self._ready.popleft() if self._ready else None

    def _read(self) -> Future[list[MiniBatch]]:
        made: Future[list[MiniBatch]] = Future()

        def read() -> None:
            try:
                made.set_result(list(itertools.islice(self._source, READ_AHEAD)))
            except BaseException as error:  # noqa: BLE001 - carried over to whoever takes
                made.set_exception(error)

        # Storage that hangs does not keep the process from its end.
        threading.Thread(target=read, name="airflow_prs-manifest", daemon=True).start()
        return made


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
        self._ahead = ReadAhead(self._read(folder, done))
        self._next = self._index_from(0)

    def __len__(self) -> int:
        """Count what is left: granted or not, waiting for its next try or not."""
        return len(self._again) + len(self._waiting) + self._unread

    @property
    def left_of_grant(self) -> float:
        """How many indices are granted and not yet handed out; infinite where all that is left is granted."""
        if self._next is None or self.granted >= self.end:
            return math.inf
        return self.granted - self._next

    @property
    def has_waited(self) -> bool:
        """Whether a try that had to wait may begin, or what was asked for too early has been read."""
        return self._is_due or self._ahead.has_arrived

    @property
    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= self._clock()

    def take(self, *, may_be_alone: bool) -> Hand | None:
        """
        Take what is next.

        :param may_be_alone: whether whoever takes it holds nothing else.
        :return: None: nothing is left, not granted, not read yet, or not for this taker.
        """
        while self._is_due:
            self._again.append(heapq.heappop(self._waiting)[2])
        if self._again:
            return self._again.popleft() if may_be_alone or not self._again[0].is_alone else None
        if self._next is None or self._next >= self.granted:
            return None
        mini_batch = self._ahead.take()
        if mini_batch is None:
            return None
        self._unread -= 1
        self._next = self._index_from(mini_batch.index + 1 - self._shard.first)
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
        return max(self.granted, min(self.end, self._next + window))

    def give_up(self) -> tuple[int, int]:
        """
        Part for good with some of what was never handed out: a third, or as much as lies together at the end.

        :return: index of the first one, and one past the last one; the same: there is nothing to part with.
        """
        if self._next is None or self._next >= self.end:
            return 0, 0
        import numpy as np

        begin = self._next
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

    def _index_from(self, position: int) -> int | None:
        """Find what is handed out next; the manifest need not be read for it."""
        if position < len(self._done) and not self._done[position]:
            return self._shard.first + position
        left = self._done[position:]
        found = int(left.argmin()) if len(left) else 0
        return None if not len(left) or left[found] else self._shard.first + position + found

    def _read(self, folder: RunFolder, done: npt.NDArray[Any]) -> Iterator[MiniBatch]:
        first = self._shard.first
        for mini_batch in folder.read_mini_batches(first, self._shard.end):
            if not done[mini_batch.index - first]:
                yield mini_batch
