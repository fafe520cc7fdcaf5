"""A queue whose mini-batches are staged ahead, and handed out when their files are there."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from airflow_prs.node.input.stager import Stager
from airflow_prs.node.work.queue import Assignment, WorkQueue


class StagedQueue:
    """
    Stages the mini-batches of a queue in the order of the queue.

    :param queue: where they come from.
    :param stager: makes local copies of their files.
    :param most_arriving: how many may wait for their files while mini-batches behind them are handed out.
    """

    def __init__(self, queue: WorkQueue, stager: Stager, *, most_arriving: int) -> None:
        self._queue = queue
        self._stager = stager
        self._most_arriving = most_arriving
        self._arriving: deque[Assignment] = deque()
        self._ahead: set[int] = set()

    def __len__(self) -> int:
        """Return how many are left, including those that wait for their files."""
        return len(self._queue) + len(self._arriving)

    def take(self, *, may_be_alone: bool) -> Assignment | None:
        """
        Take the next assignment that is staged, or whose staging has failed.

        :param may_be_alone: whether the process that gets it holds nothing else.
        :return: None: there is none now.
        """
        for position, waiting in enumerate(self._arriving):
            if (may_be_alone or not waiting.is_alone) and (staged := self._stage_if_room(waiting)) is not None:
                del self._arriving[position]
                return staged
        while len(self._arriving) < self._most_arriving:
            assignment = self._queue.take(may_be_alone=may_be_alone)
            if assignment is None:
                return None
            if (staged := self._stage_if_room(assignment)) is not None:
                return staged
            self._arriving.append(assignment)
        return None

    def stage(self, assignment: Assignment) -> Assignment | None:
        """Return an assignment with its files, or why there are none; None: they are not there yet."""
        staged = self._stager.find(assignment.mini_batch)
        if staged is None:
            return None
        self._ahead.discard(assignment.mini_batch.index)
        return assignment if staged is assignment.staged else replace(assignment, staged=staged)

    def _stage_if_room(self, assignment: Assignment) -> Assignment | None:
        return self.stage(assignment) if self._stager.has_room_for(assignment.mini_batch) else None

    def stage_ahead(self) -> None:
        """Stage what is next as far as there is room."""
        for waiting in self._arriving:
            if not self._stager.has_room_for(waiting.mini_batch):
                return
            self._stager.begin(waiting.mini_batch)
        while (mini_batch := self._queue.peek()) is not None:
            if not self._stager.has_room_for(mini_batch):
                return
            if self._stager.begin(mini_batch):
                self._ahead.add(mini_batch.index)
            self._queue.pass_peeked()

    def release(self, index: int) -> None:
        """Remove the files of a mini-batch after a try."""
        self._stager.release(index)

    def forget(self, first: int, end: int) -> None:
        """Remove the files of mini-batches that will not be handed out, unless a process holds them."""
        for index in [index for index in self._ahead if first <= index < end]:
            self._ahead.remove(index)
            self._stager.release(index)

    def close(self) -> None:
        """Remove the files of all mini-batches that no process holds."""
        ahead = self._ahead | {assignment.mini_batch.index for assignment in self._arriving}
        self._ahead.clear()
        for index in ahead:
            self._stager.release(index)
