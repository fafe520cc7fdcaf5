"""What worker processes print: into their log files whole, into the task log within limits."""

from __future__ import annotations

import asyncio
import codecs
import logging
import time
from collections.abc import Callable
from pathlib import Path

ROTATE_BYTES = 100 * 1024 * 1024
LINES_PER_MINUTE = 1000
_LONGEST_LINE = 64 * 1024
"""In characters; a longer one comes in parts."""
_MINUTE_S = 60.0


class LogFile:
    """
    A log file that starts anew at 100 MiB; the part before is kept beside it as ``<name>.1``.

    :param path: created with its folders when the first line comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append."""
        if self._size + len(data) > ROTATE_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._size = 0
        if self._size == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)
        self._size += len(data)


class TaskLog:
    """
    The lines of one worker process in the task log, at most 1,000 a minute.

    :param logger: the task's.
    :param process: name of the process, the lines' prefix.
    """

    def __init__(self, logger: logging.Logger, process: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._process = process
        self._clock = clock
        self._minute = clock()
        self._lines = 0
        self._left_out = 0

    def write(self, line: str) -> None:
        """Log a line, or count it as left out."""
        if self._clock() - self._minute >= _MINUTE_S:
            self.flush()
            self._minute, self._lines = self._clock(), 0
        self._lines += 1
        if self._lines > LINES_PER_MINUTE:
            self._left_out += 1
            return
        self._logger.info("[%s] %s", self._process, line)

    def flush(self) -> None:
        """Say what was left out."""
        if self._left_out:
            self._logger.warning(
                "[%s] %d more lines within a minute are left out here; they are in its log file",
                self._process,
                self._left_out,
            )
            self._left_out = 0


class OutputPump(asyncio.Protocol):
    """
    Reads a worker process's stdout or stderr to its end, line by line.

    :param file: takes everything.
    :param task_log: takes what its limits allow.
    :param redact: masks secrets.
    """

    def __init__(self, file: LogFile, task_log: TaskLog, redact: Callable[[str], str]) -> None:
        self.ended = asyncio.Event()
        self._file = file
        self._task_log = task_log
        self._redact = redact
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        self._rest = ""

    def data_received(self, data: bytes) -> None:
        """Take what was printed."""
        whole, line_end, self._rest = (self._rest + self._decode(data)).rpartition("\n")
        if line_end:
            self._write(self._redact(whole + line_end))
        if len(self._rest) > _LONGEST_LINE:
            # What stays is long enough to hold all that has come of a secret that goes on.
            masked = self._redact(self._rest)
            self._write(masked[: _LONGEST_LINE // 2] + "\n")
            self._rest = masked[_LONGEST_LINE // 2 :]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Take the last line, which may have no end."""
        self._rest += self._decode(b"", final=True)
        if self._rest:
            self._write(self._redact(self._rest + "\n"))
        self._task_log.flush()
        self.ended.set()

    def _write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "backslashreplace"))
        for line in text.splitlines():
            self._task_log.write(line)
