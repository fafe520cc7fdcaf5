"""What a node hands out next: retries first, then mini-batches in input order, up to the grant of the last commit."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_prs.node.input.stager import NOTHING_TO_STAGE, Staged
from airflow_prs.records import MiniBatch, Shard
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.inheritance import GROUP

if TYPE_CHECKING:
    import numpy.typing as npt

READ_AHEAD = 1024
"""Mini-batches that are read in advance while as many others are handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    Some items of a mini-batch, for one call of run().

    :param spans: position of the first item, and one past the last one, of each stretch; in input order.
    :param is_trial: whether the rows are not kept.
    """

    spans: tuple[tuple[int, int], ...]
    is_trial: bool

    @property
    def items(self) -> int:
        """Number of the items."""
        return sum(end - begin for begin, end in self.spans)


@dataclass(frozen=True, slots=True)
class Assignment:
    """
    A mini-batch that is handed out for one try.

    :param try_number: from 1.
    :param is_alone: whether its process may hold nothing else, because this mini-batch may have killed a process.
    :param staged: where its files are for the process that gets it.
    :param part: what run() gets of it; None: all items.
    """

    mini_batch: MiniBatch
    try_number: int
    is_alone: bool = False
    staged: Staged = NOTHING_TO_STAGE
    part: Part | None = None

    @property
    def items(self) -> int:
        """Number of items that run() gets."""
        return self.mini_batch.items if self.part is None else self.part.items


class ReadAhead:
    """
    Reads mini-batches in a thread, some in advance, so that slow storage does not block whoever takes them.

    :param source: used here alone; take() raises its exceptions.
    """

    def __init__(self, source: Iterator[MiniBatch]) -> None:
        self._source = source
        self._ready: deque[MiniBatch] = deque()
        self._passed = 0
        self._is_awaited = False
        self._made = self._read()

    @property
    def has_arrived(self) -> bool:
        """Whether mini-batches have arrived that take() did not have yet."""
        return self._is_awaited and self._made.done()

    def take(self) -> MiniBatch | None:
        """Take the next mini-batch; None: it has not been read yet."""
        if not self._ready:
            self._is_awaited = not self._made.done()
            if self._is_awaited:
                return None
            self._take_over()
        self._passed = max(0, self._passed - 1)
        return self._ready.popleft() if self._ready else None

    def peek(self) -> MiniBatch | None:
        """Return the first mini-batch that was neither taken nor passed; None: it is not near, or not read yet."""
        if self._passed == len(self._ready) < READ_AHEAD and self._made.done() and self._made.exception() is None:
            self._take_over()
        return self._ready[self._passed] if self._passed < len(self._ready) else None

    def pass_peeked(self) -> None:
        """Let peek() return the mini-batch behind the one that it returns now."""
        self._passed += 1

    def _take_over(self) -> None:
        made = self._made.result()
        self._ready.extend(made)
        # Each peek near the end would start another thread.
        if made:
            self._made = self._read()

    def _read(self) -> Future[list[MiniBatch]]:
        made: Future[list[MiniBatch]] = Future()

        def read() -> None:
            try:
                made.set_result(list(itertools.islice(self._source, READ_AHEAD)))
            except BaseException as error:  # noqa: BLE001 - raised by take()
                made.set_exception(error)

        # A daemon thread: storage that hangs must not keep this process from ending.
        threading.Thread(target=read, name="airflow_prs-manifest", daemon=True).start()
        return made


class WorkQueue:
    """
    The mini-batches of a shard that have no outcome yet.

    :param done: by position in the shard: whether it has an outcome, or is handed out elsewhere.
    :param tries: failed tries so far, by index.
    :param granted: index below which mini-batches may be handed out.
    :param crowd: indices that an earlier attempt may have died of, sorted; they are handed out two groups at a time.
    :param clock: seconds, for retries that wait.
    """

    def __init__(
        self,
        folder: RunFolder,
        shard: Shard,
        *,
        done: npt.NDArray[Any],
        tries: dict[int, int],
        granted: int,
        crowd: Sequence[int] = (),
        group: int = GROUP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.granted = granted
        self._end = shard.end
        self._shard = shard
        self._done = done
        self._tries = tries
        self._clock = clock
        self._crowd = crowd
        self._group = group
        self._again: deque[Assignment] = deque()
        self._waiting: list[tuple[float, int, Assignment]] = []
        self._order = itertools.count()
        self._unread = int((~done).sum())
        self._ahead = ReadAhead(self._read(folder, done))
        self._next = self._index_from(0)

    def __len__(self) -> int:
        """Return how many are left: granted or not, waiting for the next try or not."""
        return len(self._again) + len(self._waiting) + self._unread

    @property
    def left_of_grant(self) -> float:
        """How many indices are granted and not yet handed out; infinite if all that is left is granted."""
        if self._next is None or self.granted >= self._end:
            return math.inf
        return self.granted - self._next

    @property
    def has_waited(self) -> bool:
        """Whether a retry has waited long enough, or mini-batches that take() did not have yet have been read."""
        return self._is_due or self._ahead.has_arrived

    @property
    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= self._clock()

    def take(self, *, may_be_alone: bool) -> Assignment | None:
        """
        Take the next assignment.

        :param may_be_alone: whether the process that gets it holds nothing else.
        :return: None: nothing is left, granted, read, or allowed beside what the process holds.
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
        return Assignment(mini_batch, self._tries.pop(mini_batch.index, 0) + 1)

    def peek(self) -> MiniBatch | None:
        """Return the next mini-batch that was neither taken nor passed, granted or not; None: none that is near."""
        mini_batch = self._ahead.peek()
        return mini_batch if mini_batch is not None and mini_batch.index < self._end else None

    def pass_peeked(self) -> None:
        """Let peek() return the mini-batch behind the one that it returns now."""
        self._ahead.pass_peeked()

    def put_back(self, assignments: list[Assignment]) -> None:
        """Put assignments that were not tried to the front."""
        self._again.extendleft(reversed(assignments))

    def try_again(self, assignment: Assignment, after_s: float) -> None:
        """Queue the next try of a mini-batch."""
        following = replace(assignment, try_number=assignment.try_number + 1)
        if after_s > 0:
            heapq.heappush(self._waiting, (self._clock() + after_s, next(self._order), following))
        else:
            self._again.append(following)

    def limit_window(self, window: int, in_hand: int) -> int:
        """
        Return how many mini-batches to grant of a window: in a crowd, no more than two groups are in hand.

        :param in_hand: how many were handed out and have no outcome.
        """
        return min(window, max(1, 2 * self._group - in_hand)) if self._is_crowded(window) else window

    def next_grant(self, window: int) -> int:
        """Return the grant for the next commit: ``window`` indices beyond what was handed out."""
        if self._next is None:
            return self._end
        return max(self.granted, min(self._end, self._next + window))

    def grant(self, below: int) -> None:
        """Allow mini-batches below an index to be handed out, except those that were lent since."""
        self.granted = min(below, self._end)

    def give_up(self) -> tuple[int, int]:
        """
        Remove some mini-batches that were never tried: a third of what is left, or fewer if those are not consecutive.

        :return: index of the first one, and one past the last one; equal if there is nothing to remove. In a crowd of
            suspects there is not: a borrower would not know of them.
        """
        if self._next is None or self._next >= self._end or self._is_crowded(self._end):
            return 0, 0
        import numpy as np

        begin = self._next
        pending = np.flatnonzero(~self._done[begin - self._shard.first : self._end - self._shard.first]) + begin
        # Those that were tried stay: their tries are counted here.
        tried = np.isin(pending, list(self._tries))
        behind = np.flatnonzero(tried | (np.diff(pending, prepend=pending[0] - 1) != 1))
        together = len(pending) - (0 if not len(behind) else int(behind[-1]) + int(tried[behind[-1]]))
        count = min(together, max(1, len(pending) // 3))
        if not count:
            return 0, 0
        first, end = int(pending[-count]), int(pending[-1]) + 1
        self._unread -= count
        self._end, self.granted = first, min(self.granted, first)
        return first, end

    def take_back(self, first: int, end: int) -> bool:
        """
        Add mini-batches again that give_up() has returned.

        :return: False if that is impossible: others that come before them were given up too.
        """
        if first != self._end:
            return False
        self._end = end
        self._unread += int((~self._done[first - self._shard.first : end - self._shard.first]).sum())
        return True

    def _is_crowded(self, window: int) -> bool:
        if self._next is None:
            return False
        place = bisect_left(self._crowd, self._next)
        return place < len(self._crowd) and self._crowd[place] < self._next + window

    def _index_from(self, position: int) -> int | None:
        """Find the index that is handed out next, without reading the manifest."""
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
