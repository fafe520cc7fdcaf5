"""The layout that the rows of all mini-batches of a run share, in numbered revisions of which each is created once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from airflow_prs.run_folder.log import unseen, wait_for
from airflow_prs.run_folder.names import LAYOUT
from airflow_prs.store.port import Store


class Revision(NamedTuple):
    """
    A revision of the layout.

    :param number: from 0; -1: there is none.
    """

    number: int = -1
    content: bytes = b""


class Layout:
    """
    The layout of a run. It remembers the newest revision that it has seen; one thread at a time may use it.

    :param sleep: waits for storage that lags behind, in seconds.
    """

    def __init__(self, store: Store, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._sleep = sleep
        self._newest = Revision()

    def propose(self, number: int, content: bytes) -> Revision:
        """
        Create a revision, durable on return, unless there is one of that number.

        :param number: one more than that of the newest revision that the caller knows.
        :param content: what it holds; b"": only look for a revision of that number.
        :return: the newest revision that is known by now: this one, or one that somebody else was faster with.
        :raises RunFolderError: if there is one that cannot be seen here within 90 seconds.
        """
        if self._newest.number >= number:
            return self._newest
        if content and self._store.create(_key(number), content):
            self._newest = Revision(number, content)
        elif content or self._store.stat(_key(number)) is not None:
            self._newest = self._read_from(number)
        return self._newest

    def newest(self) -> Revision:
        """
        Return the newest revision.

        :raises RunFolderError: if it cannot be read here within 90 seconds.
        """
        numbers = [int(name) for name in (key[len(LAYOUT) :] for key in self._store.list(LAYOUT)) if name.isdigit()]
        if not numbers:
            return Revision()
        key = _key(max(numbers))
        content = wait_for(lambda: self._store.get(key), self._sleep)
        if content is None:
            raise unseen(key)
        return Revision(max(numbers), content)

    def _read_from(self, number: int) -> Revision:
        """Return the newest revision; the one of a number is known to exist."""

        def look() -> Revision | None:
            newest = self.newest()
            return newest if newest.number >= number else None

        newest = wait_for(look, self._sleep)
        if newest is None:
            raise unseen(_key(number))
        return newest


def _key(number: int) -> str:
    return f"{LAYOUT}{number:06d}"
