"""
EntryScript, which describes the process that a script runs in, and exceptions that control further tries.

Scripts import EntryScript from ``azureml_user.parallel_run``, ``entry_script`` or ``airflow_prs.entry_script``, and the
exceptions from ``airflow_prs.entry_script``.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Relative, because this package has another name in a worker process.
from . import stand_ins  # noqa: TID252

OUR_NAME = "airflow_prs.entry_script"
NAMES = ("azureml_user.parallel_run", "entry_script")

LOG_BATCH_S = 0.2
LOG_BATCH_CHARACTERS = 64 * 1024


class EntryScript:
    """
    Describes the process that an entry script runs in. There is one instance; each call returns it.

    Outside a worker process, as in tests of the script, all folders are the current one, and the logger is a plain one.
    """

    _only: EntryScript | None = None

    logger: logging.Logger
    """Writes to this process's file among the user's logs, and to stderr like any logger."""
    log_dir: str
    """Folder of that file; the script may write its own files there."""
    output_dir: str
    """The output folder."""
    agent_name: str
    """Name of the worker process on its node, such as ``process000``."""
    working_dir: str
    """Private folder of the process, removed when the process ends."""
    dir: str
    """Folder of the entry script."""

    def __new__(cls) -> EntryScript:  # noqa: PYI034 - Self is newer than the oldest Python that this runs under
        """Return the only instance."""
        if cls._only is None:
            here = os.getcwd()
            cls._only = super().__new__(cls)
            cls._only.logger = logging.getLogger("EntryScript")
            cls._only.log_dir = cls._only.output_dir = cls._only.working_dir = cls._only.dir = here
            cls._only.agent_name = "process000"
        return cls._only


class NotRetryable(Exception):  # noqa: N818 - named for its effect, as AirflowSkipException is
    """Raised by run(): this mini-batch fails without further tries. Raised by init(): the shard does."""

    __module__ = OUR_NAME


class RetryAfter(Exception):  # noqa: N818 - named for its effect
    """
    Raised by run(): the next try of this mini-batch should wait.

    :param seconds: how long it waits at least.
    :param message: the reason.
    """

    __module__ = OUR_NAME

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(seconds, message)
        self.seconds = float(seconds)
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"RetryAfter({seconds!r}): allowed: seconds, at least 0")
        self.message = message

    def __str__(self) -> str:
        return self.message or f"try again after {self.seconds:g} seconds"


def retry_wish(error: BaseException) -> dict[str, Any]:
    """Return what an exception of run() asks for, as a field of a message to the supervisor; empty: nothing."""
    if isinstance(error, NotRetryable):
        return {"retry": {"never": True}}
    # A subclass may not set the seconds, change them, or replace them by a property that raises.
    seconds = vars(error).get("seconds") if isinstance(error, RetryAfter) else None
    if isinstance(seconds, (int, float)) and 0 <= seconds < math.inf:
        return {"retry": {"after_s": float(seconds)}}
    return {}


class LogSender(logging.Handler):
    """
    Sends lines to the supervisor, which masks secrets in them and writes the file.

    The first line is sent immediately, lines that follow soon after it are sent together.

    :param send: sends lines, each with its line end; called from any thread.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__()
        self._send = send
        self._process = os.getpid()
        self._lines: list[str] = []
        self._size = 0
        self._sent = -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line. A forked copy of the process does nothing: its lines go only to stderr."""
        if os.getpid() != self._process:
            return
        try:
            line = self.format(record) + "\n"
            self._lines.append(line)
            self._size += len(line)
            if self._size >= LOG_BATCH_CHARACTERS or time.monotonic() - self._sent >= LOG_BATCH_S:
                self._send_lines()
            elif len(self._lines) == 1:
                self._send_later()
        except Exception:  # noqa: BLE001 - formatting runs the user's code, and logging must not raise
            self.handleError(record)

    def flush(self) -> None:
        """Send the lines that have not been sent."""
        self.acquire()
        try:
            if os.getpid() == self._process:
                self._send_lines()
        finally:
            self.release()

    def _send_lines(self) -> None:
        if self._lines:
            text = "".join(self._lines)
            self._lines, self._size, self._sent = [], 0, time.monotonic()
            self._send(text)

    def _send_later(self) -> None:
        timer = threading.Timer(LOG_BATCH_S, self.flush)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            self._send_lines()


def fill_in(
    *, folder: str, output_dir: str, agent_name: str, log_dir: str, level: str, send_log: Callable[[str], None]
) -> None:
    """
    Set the attributes of this process's EntryScript, and its logger.

    :param folder: folder of the entry script.
    :param output_dir: the output folder.
    :param agent_name: name of this worker process.
    :param log_dir: folder of the log file.
    :param level: level of the logger.
    :param send_log: sends lines for the log file to the supervisor.
    """
    entry_script = EntryScript()
    entry_script.dir = folder
    entry_script.output_dir = output_dir
    entry_script.agent_name = agent_name
    entry_script.log_dir = log_dir
    os.makedirs(log_dir, exist_ok=True)
    handler = LogSender(send_log)  # logging flushes it at exit
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    entry_script.logger.setLevel(level)
    entry_script.logger.addHandler(handler)


def offer_names() -> None:
    """
    Make EntryScript importable from all modules that scripts import it from, and the exceptions from ours.

    A module of the user takes precedence, except for our own name: an installed airflow_prs does not know this process.
    """
    ours = {OUR_NAME: {"EntryScript": EntryScript, "NotRetryable": NotRetryable, "RetryAfter": RetryAfter}}
    theirs = {name: {"EntryScript": EntryScript} for name in NAMES}
    sys.meta_path.insert(0, stand_ins.StandIns(ours))
    sys.meta_path.append(stand_ins.StandIns({"airflow_prs": {}, **ours, "azureml_user": {}, **theirs}))
