"""Several mini-batches concurrently: each is a task of the event loop, and its answer is sent when it is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Frames(Protocol):
    """The channel to the supervisor."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def read(self) -> bool:
        """Read what has arrived; return False when the other end is closed."""

    def receive_available(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived completely."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a frame."""


class Running:
    """
    A mini-batch that is being worked on.

    :ivar overdue: the supervisor's reason to cancel it; '': it is not cancelled.
    """

    def __init__(self) -> None:
        self.overdue = ""
        self.task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """
        Raise if the mini-batch was cancelled but the script has suppressed the cancellation.

        :raises TimeoutError: if it is overdue.
        """
        if self.overdue:
            raise TimeoutError(self.overdue)


class TaskServer:
    """
    Starts a task for each mini-batch as soon as the supervisor hands it out.

    :param loop: the event loop, not yet running.
    :param frames: the channel.
    :param attempt: works on a mini-batch and returns the answer, also after an exception or a cancellation.
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
        Start to listen for frames.

        :returns: a future: True when the supervisor has no more mini-batches and all answers are sent, False when the
            supervisor is gone.
        """
        self._loop.add_reader(self._frames.fileno(), self._hear)
        self._over.add_done_callback(lambda _: self._loop.remove_reader(self._frames.fileno()))
        self._loop.call_soon(self._take_frames)
        return self._over

    def _hear(self) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # the user's code has forked this process; the frames are for the original
        if self._frames.read():
            self._take_frames()
        elif not self._over.done():
            self._over.set_result(False)

    def _take_frames(self) -> None:
        for message in self._frames.receive_available():
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
        if running is not None and running.task is not None:  # otherwise its answer has been sent already
            running.overdue = error
            # A task that is cancelled before its first step would end without an answer.
            self._loop.call_soon(running.task.cancel)

    async def _work(self, order: list[Any], running: Running) -> None:
        answer = await self._attempt(order, running)
        del self._running[order[0]]
        try:
            self._frames.send(answer)
        except Exception as error:  # noqa: BLE001 - the future passes it to the caller
            if not self._over.done():
                self._over.set_exception(error)
        # While its rows waited for the layout, messages may have been read, which no longer wake the event loop.
        self._take_frames()

    def _end_if_through(self) -> None:
        if self._is_closing and not self._running and not self._over.done():
            self._over.set_result(True)
