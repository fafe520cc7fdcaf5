"""What a node hands out next: retries first, then mini-batches in input order as far as the last commit grants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
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
    """

    mini_batch: MiniBatch
    try_number: int


class WorkQueue:
    """
    The mini-batches of a shard that have no outcome yet.

    :param done: by position in the shard: has an outcome, or is somebody else's business.
    :param tries: failed tries so far, by index.
    :param granted: index below which mini-batches may be handed out.
    """

    def __init__(
        self, folder: RunFolder, shard: Shard, *, done: npt.NDArray[Any], tries: dict[int, int], granted: int
    ) -> None:
        self.granted = granted
        self._shard = shard
        self._tries = tries
        self._again: deque[Hand] = deque()
        self._unread = int((~done).sum())
        self._fresh = self._read(folder, done)
        self._next: MiniBatch | None = next(self._fresh, None)

    def __len__(self) -> int:
        """Count what waits, granted or not."""
        return len(self._again) + self._unread

    @property
    def is_blocked(self) -> bool:
        """Whether something waits that the next commit must grant first."""
        return not self._again and self._next is not None and self._next.index >= self.granted

    @property
    def granted_ahead(self) -> int:
        """How many indices the grant reaches beyond what was handed out."""
        return 0 if self._next is None else self.granted - self._next.index

    @property
    def is_fully_granted(self) -> bool:
        """Whether the grant reaches the shard's end."""
        return self._next is None or self.granted >= self._shard.end

    def take(self) -> Hand | None:
        """Take what is next; None: nothing waits, or it is not granted."""
        if self._again:
            return self._again.popleft()
        mini_batch = self._next
        if mini_batch is None or mini_batch.index >= self.granted:
            return None
        self._unread -= 1
        self._next = next(self._fresh, None)
        return Hand(mini_batch, self._tries.pop(mini_batch.index, 0) + 1)

    def put_back(self, hands: list[Hand]) -> None:
        """Give back what no process began, to be taken first."""
        self._again.extendleft(reversed(hands))

    def try_again(self, hand: Hand) -> None:
        """Queue the next try of a mini-batch that failed one."""
        self._again.append(Hand(hand.mini_batch, hand.try_number + 1))

    def extend_grant(self, window: int) -> int:
        """Say how far the next commit grants: ``window`` indices beyond what was handed out."""
        if self._next is None:
            return self._shard.end
        return max(self.granted, min(self._shard.end, self._next.index + window))

    def _read(self, folder: RunFolder, done: npt.NDArray[Any]) -> Iterator[MiniBatch]:
        first = self._shard.first
        for mini_batch in folder.read_mini_batches(first, self._shard.end):
            if not done[mini_batch.index - first]:
                yield mini_batch
