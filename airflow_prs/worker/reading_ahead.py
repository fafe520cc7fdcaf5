"""The next mini-batches of a worker process: they are loaded in threads while run() works on the one before."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

# Relative, because this package has another name in a worker process.
from .loading import Loader, Order  # noqa: TID252

_FORK_WAIT_S = 1.0


class Frames(Protocol):
    """The channel to the supervisor."""

    def share(self) -> None:
        """Let one thread receive and another one ask."""

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message and return it; None when the other end is closed."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""


class ForkGuard:
    """
    Delays a fork of this process until no thread is inside the guard, so that the copy has no lock that a thread held.

    It waits a second at most: a load that hangs must not stop run().
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._go_on)

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def _wait(self) -> None:
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._inside, _FORK_WAIT_S)

    def _go_on(self) -> None:
        self._changed.release()


class Upcoming:
    """
    A mini-batch that the supervisor has handed out and run() has not begun with.

    :param order: the supervisor's order.
    :param loader: loads it.
    """

    __slots__ = ("_error", "_is_loaded", "_loader", "_mini_batch", "is_begun", "order")

    def __init__(self, order: Order, loader: Loader) -> None:
        self.order = order
        self.is_begun = False
        self._loader = loader
        self._is_loaded = threading.Event()
        self._mini_batch: Any = None
        self._error: BaseException | None = None

    def load_ahead(self, supervisor: Frames, guard: ForkGuard) -> None:
        """Tell the supervisor, load it, and keep it or the error until load() is called."""
        try:
            supervisor.send({"loading": self.order.minibatch_index})
            with guard:
                self._mini_batch = self._loader.load_in_thread(self.order)
        except BaseException as error:  # noqa: BLE001 - load() raises it
            self._error = error
        self._is_loaded.set()

    def load(self, order: Order) -> Any:
        """Return the mini-batch as soon as it is loaded, or raise the error of loading it."""
        if not self.is_begun:
            return self._loader.load_in_thread(order)
        self._is_loaded.wait()
        if self._error is not None:
            raise self._error
        mini_batch, self._mini_batch = self._mini_batch, None
        return mini_batch


class ReadAhead:
    """
    Receives the orders of the supervisor, and loads mini-batches ahead of run().

    It tells the supervisor what it loads ahead: if the process dies meanwhile, that mini-batch is suspect, too.

    :param supervisor: from now on only this receives from it.
    :param orders: those that were received before.
    :param threads: how many mini-batches are loaded ahead.

    ``is_closed`` tells whether the supervisor has no more mini-batches.
    """

    def __init__(self, supervisor: Frames, loader: Loader, orders: Iterable[list[Any]], *, threads: int) -> None:
        self.is_closed = False
        self._supervisor = supervisor
        self._loader = loader
        self._most = threads
        self._guard = ForkGuard()
        self._upcoming: deque[Upcoming] = deque()
        self._changed = threading.Condition()
        self._is_over = False
        self._error: BaseException | None = None
        self._add(orders)
        supervisor.share()
        # One more than are loaded, so that no thread waits for the supervisor.
        supervisor.send({"ahead": threads + 1})
        for target in (self._receive_all, *[self._load_all] * threads):
            threading.Thread(target=target, name="airflow_prs-ahead", daemon=True).start()

    def take(self) -> Upcoming | None:
        """
        Wait for the next mini-batch and return it; None: there are no more, or the supervisor is gone.

        :raises ChannelClosedError: if the script has closed the channel.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._upcoming or self._is_over)
            if self._error is not None:
                raise self._error
            taken = self._upcoming.popleft() if self._upcoming else None
            self._changed.notify_all()
        return taken

    def _add(self, orders: Iterable[list[Any]]) -> None:
        self._upcoming.extend(Upcoming(Order(*fields), self._loader) for fields in orders)

    def _receive_all(self) -> None:
        try:
            while not self.is_closed and (message := self._supervisor.receive()) is not None:
                with self._changed:
                    self._add(message.get("run", ()))
                    self.is_closed = "close" in message
                    if "recall" in message:
                        self._return_all()
                    self._changed.notify_all()
            self._end(None)
        except BaseException as error:  # noqa: BLE001 - take() raises it
            self._end(error)

    def _return_all(self) -> None:
        """Return to the supervisor what run() has not begun with."""
        indices = [each.order.minibatch_index for each in self._upcoming]
        self._upcoming.clear()
        self._supervisor.send({"returned": indices})

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify_all()

    def _load_all(self) -> None:
        try:
            while (upcoming := self._next_to_load()) is not None:
                upcoming.load_ahead(self._supervisor, self._guard)
                self._supervisor.send({"loaded": upcoming.order.minibatch_index})
        except BaseException as error:  # noqa: BLE001 - take() raises it
            self._end(error)

    def _next_to_load(self) -> Upcoming | None:
        """Wait for a mini-batch that may be loaded ahead, and return it; None: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._find_to_load() is not None)
            found = None if self._is_over else self._find_to_load()
            if found is not None:
                found.is_begun = True
            return found

    def _find_to_load(self) -> Upcoming | None:
        for number, each in enumerate(self._upcoming):
            if number == self._most:
                return None
            if not each.is_begun:
                return each if self._loader.should_load_ahead(each.order) else None
        return None
