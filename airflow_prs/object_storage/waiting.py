"""Which requests have no answer yet, for whoever waits and wants to know what for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from airflow_prs.object_storage.addresses import Bucket

SAID_AFTER_S: Final = 3.0
_AGAIN_AFTER_S: Final = 30.0

_under_way: Final[dict[object, tuple[float, Bucket]]] = {}


@contextmanager
def under_way(bucket: Bucket) -> Iterator[None]:
    """Note that requests to a bucket are under way."""
    token = object()
    _under_way[token] = time.monotonic(), bucket
    try:
        yield
    finally:
        del _under_way[token]


@contextmanager
def say_what_is_awaited(say: Callable[[str], None], after_s: float = SAID_AFTER_S) -> Iterator[None]:
    """
    Say which buckets have not answered for some seconds, each every half minute.

    :param say: called in another thread.
    """
    is_over, said = threading.Event(), dict[Bucket, float]()

    def watch() -> None:
        while not is_over.wait(after_s / 3):
            now = time.monotonic()
            late = {bucket for since, bucket in [*_under_way.values()] if now - since >= after_s}
            for bucket in late:
                if now - said.get(bucket, -_AGAIN_AFTER_S) >= _AGAIN_AFTER_S:
                    said[bucket] = now
                    say(f"{bucket} has not answered for {after_s:g} seconds; retrying for up to 60 seconds")

    thread = threading.Thread(target=watch, name="airflow_prs-waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
