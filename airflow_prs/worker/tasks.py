"""Many mini-batches at once: each is a task of the event loop, and answered when it is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Frames(Protocol):
    """The channel to the supervisor."""

    def fileno(self) -> int:
        """Give its descriptor."""

    def read(self) -> bool:
        """Take in what has come; False when the other end is closed."""

    def receive_whole(self) -> list[dict[str, Any]]:
        """Take the frames that have come whole."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a frame."""


class Running:
    """
    A mini-batch in work.

    :ivar overdue: why it is to be given up, in the supervisor's words; '' as long as it is not.
    """

    def __init__(self) -> None:
        self.overdue = ""
        self.task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """
        Give it up where the script has swallowed the cancellation.

        :raises TimeoutError: if it is overdue.
        """
        if self.overdue:
            raise TimeoutError(self.overdue)


class TaskServer:
    """
    Works on whatever the supervisor hands out, as soon as it comes.

    :param loop: the event loop, not yet running.
    :param frames: the channel.
    :param attempt: works on a mini-batch and gives the answer, whatever happens, a cancellation among it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        frames: Frames,
        attempt: Callable[[list[Any], Running], Coroutine[Any, Any, dict[str, Any]]],
    ) -> None:
        self._loop = loop
        self._frames = frames
        self._attempt = attempt
        self._process = os.getpid()
        self._running: dict[int, Running] = {}
        self._is_closing = False
        self._over: asyncio.Future[bool] = loop.create_future()

    def begin(self) -> asyncio.Future[bool]:
        """
        Begin to listen.

        :returns: True when the supervisor has said that there is nothing more and all is answered, False when it is
            gone.
        """
        self._loop.add_reader(self._frames.fileno(), self._hear)
        self._over.add_done_callback(lambda _: self._loop.remove_reader(self._frames.fileno()))
        self._loop.call_soon(self._take_frames)
        return self._over

    def _hear(self) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # a copy that the user's code made of this process: what it would read is not for it
        if self._frames.read():
            self._take_frames()
        elif not self._over.done():
            self._over.set_result(False)

    def _take_frames(self) -> None:
        for message in self._frames.receive_whole():
            for order in message.get("run", ()):
                self._start(order)
            if "cancel" in message:
                self._cancel(message["cancel"], message["error"])
            elif "close" in message:
                self._is_closing = True
        self._end_if_through()

    def _start(self, order: list[Any]) -> None:
        running = self._running[order[0]] = Running()
        running.task = self._loop.create_task(self._work(order, running))

    def _cancel(self, index: int, error: str) -> None:
        running = self._running.get(index)
        if running is not None and running.task is not None:  # else its answer is on the way already
            running.overdue = error
            # Not before its first step: it would end without an answer.
            self._loop.call_soon(running.task.cancel)

    async def _work(self, order: list[Any], running: Running) -> None:
        answer = await self._attempt(order, running)
        del self._running[order[0]]
        try:
            self._frames.send(answer)
        except Exception as error:  # noqa: BLE001 - raised by whoever waits for the end
            if not self._over.done():
                self._over.set_exception(error)
        self._end_if_through()

    def _end_if_through(self) -> None:
        if self._is_closing and not self._running and not self._over.done():
            self._over.set_result(True)
