"""Writes what worker processes print: all of it to their log files, and to the task log within limits."""

from __future__ import annotations

import asyncio
import codecs
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import cast

ROTATE_BYTES = 100 * 1024 * 1024
LINES_PER_MINUTE = 1000
MOST_WAITING_BYTES = 16 * 1024 * 1024
CLOSE_S = 10.0
_STALLED_S = 1.0
_LONGEST_LINE = 64 * 1024
"""In characters; a longer one comes in parts."""
_MINUTE_S = 60.0
_MOMENT = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?=[A-Z]+ )")
"""The moment at the beginning of a line, as Python's logging writes it for the log file; see worker.process."""


class LogFile:
    """
    A log file that is rotated at 100 MiB; the last part is kept beside it as ``<name>.1``.

    :param path: created with its folders by the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append to the file."""
        if self._size + len(data) > ROTATE_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._size = 0
        if self._size == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)
        self._size += len(data)


class LogWriter:
    """
    Writes to the log files of a node in a thread, in order, so that storage that does not answer cannot block the node.

    To be used in one event loop, whose exception handler gets the errors.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[LogFile, bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._held_up: list[Callable[[], None]] = []
        self._busy_since: float | None = None

    def write(self, file: LogFile, data: bytes) -> None:
        """Queue data to be appended to a file."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="airflow_prs-logs", daemon=True)
            self._thread.start()
        with self._lock:
            self._waiting_bytes += len(data)
        self._queue.put((file, data))

    def is_full(self, on_room: Callable[[], None]) -> bool:
        """
        Whether so much data is queued that no more should be read.

        :param on_room: called in the event loop when there is room again.
        """
        with self._lock:
            is_full = self._waiting_bytes > MOST_WAITING_BYTES
            if is_full:
                self._held_up.append(on_room)
        return is_full

    @property
    def is_stalled(self) -> bool:
        """Whether the storage does not answer."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > _STALLED_S

    def close(self) -> None:
        """Wait until all is written; for storage that does not answer, only some seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            file, data = order
            self._busy_since = time.monotonic()
            try:
                file.write(data)
            except OSError as error:
                self._call(lambda error=error: self._raise(error))  # type: ignore[misc]
            self._busy_since = None
            with self._lock:
                self._waiting_bytes -= len(data)
                has_room = self._waiting_bytes <= MOST_WAITING_BYTES // 2
                calls, self._held_up = (self._held_up, []) if has_room else ([], self._held_up)
            for call in calls:
                self._call(call)

    def _call(self, call: Callable[[], None]) -> None:
        # The event loop may be closed.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def _raise(self, error: OSError) -> None:
        if self._loop is not None:
            self._loop.call_exception_handler({"message": "a log file cannot be written", "exception": error})


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
        """Log a line, or count it as omitted."""
        if self._clock() - self._minute >= _MINUTE_S:
            self.flush()
            self._minute, self._lines = self._clock(), 0
        self._lines += 1
        if self._lines > LINES_PER_MINUTE:
            self._left_out += 1
            return
        # Airflow adds its own moment to each line.
        self._logger.info("[%s] %s", self._process, _MOMENT.sub("", line))

    def flush(self) -> None:
        """Log how many lines were omitted."""
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

    :param file: gets everything.
    :param writer: writes to it.
    :param task_log: gets what its limits allow.
    :param redact: masks secrets.
    """

    def __init__(self, file: LogFile, writer: LogWriter, task_log: TaskLog, redact: Callable[[str], str]) -> None:
        self.ended = asyncio.Event()
        self._file = file
        self._writer = writer
        self._transport: asyncio.ReadTransport | None = None
        self._is_paused = False
        self._task_log = task_log
        self._redact = redact
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        self._rest = ""

    @property
    def is_held_up(self) -> bool:
        """Whether the process may be blocked because storage does not take what it prints."""
        return self._is_paused and self._writer.is_stalled

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to pause reading."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Write the complete lines."""
        lines, line_end, self._rest = (self._rest + self._decode(data)).rpartition("\n")
        if line_end:
            self._write(self._redact(lines + line_end))
        if len(self._rest) > _LONGEST_LINE:
            # The half that is kept is longer than any part of a secret that is not complete yet.
            masked = self._redact(self._rest)
            self._write(masked[: -_LONGEST_LINE // 2] + "\n")
            self._rest = masked[-_LONGEST_LINE // 2 :]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Write the last line, which may lack its end."""
        self._rest += self._decode(b"", final=True)
        if self._rest:
            self._write(self._redact(self._rest + "\n"))
        self._task_log.flush()
        self.ended.set()

    def _write(self, text: str) -> None:
        self._writer.write(self._file, text.encode("utf-8", "backslashreplace"))
        if self._transport is not None and not self._is_paused and self._writer.is_full(self._resume):
            self._is_paused = True
            self._transport.pause_reading()
        for line in text.splitlines():
            self._task_log.write(line)

    def _resume(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
