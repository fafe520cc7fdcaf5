"""Threads that make local copies, the most urgent first."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 32
"""Requests at the same time: object storage answers each in tens of milliseconds, and many at once."""

PART_BYTES = 4 * 1024 * 1024
"""Larger files are read in parts, several at the same time."""

Job = Callable[[], None]


class Fetcher:
    """
    Runs jobs in threads, which start with the first job.

    The requests of obstore run in threads of ours, not in the event loop: its asynchronous functions now and then abort
    a process that ends. The threads are daemons, since storage that hangs must not keep this process from ending.
    """

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._changed = threading.Condition()
        self._jobs: list[tuple[int, int, Job]] = []
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0

    def submit(self, urgency: int, job: Job) -> None:
        """
        Queue a job, which must not raise.

        :param urgency: jobs with a lower number are run first.
        """
        with self._changed:
            heapq.heappush(self._jobs, (urgency, next(self._order), job))
            if self._idle < len(self._jobs) and len(self._threads) < THREADS:
                thread = threading.Thread(target=self._run, name="airflow_prs-staging", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def close(self, within_s: float) -> None:
        """
        Begin with no further job.

        :param within_s: how long to wait for those that run.
        """
        with self._changed:
            self.is_over.set()
            self._jobs.clear()
            self._changed.notify_all()
        if within_s:
            for thread in self._threads:
                thread.join(within_s / max(1, len(self._threads)))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._jobs and not self.is_over.is_set():
                    self._changed.wait()
                self._idle -= 1
                if self.is_over.is_set():
                    return
                job = heapq.heappop(self._jobs)[2]
            job()


class LocalFile:
    """
    A local file that threads write in parts.

    :param path: its path; the folders are created.
    :param size: its size in bytes; None: as far as the parts go.
    """

    def __init__(self, path: str, size: int | None = None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o666)
        except FileNotFoundError:
            # Most files are in a folder that is there already.
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, flags, 0o666)
        if size is not None:
            os.truncate(self._fd, size)

    def write(self, begin: int, data: Any) -> None:
        """Write bytes to their place."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._fd, rest, begin)
            rest, begin = rest[written:], begin + written

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
