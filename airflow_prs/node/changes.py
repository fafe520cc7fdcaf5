"""How long something has stayed as it is, by this node's own clock: clocks of storage and other nodes do not count."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class Changes:
    """
    Remembers when contents were first seen as they are.

    :param clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def age_s(self, name: Hashable, content: object) -> float:
        """
        Return for how many seconds a content has not changed; 0 at the first look.

        :param name: what has the content.
        """
        now = self._clock()
        before, since = self._seen.get(name, (None, now))
        if content != before:
            since = now
        self._seen[name] = content, since
        return now - since
