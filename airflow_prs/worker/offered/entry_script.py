"""
EntryScript: what a script may know of the process that it runs in; and exceptions that say whether to try again.

Scripts import EntryScript from ``azureml_user.parallel_run``, ``entry_script`` or ``airflow_prs.entry_script``, the
exceptions from the last one.
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

# Relative, as this package has another name where it is at work.
from . import stand_ins  # noqa: TID252

OUR_NAME = "airflow_prs.entry_script"
NAMES = ("azureml_user.parallel_run", "entry_script")

LOG_BATCH_S = 0.2
LOG_BATCH_CHARACTERS = 64 * 1024


class EntryScript:
    """
    What an entry script may know of the process that it runs in; there is one, however often it is asked for.

    Outside a worker process, as in the script's own tests, folders are the current one and the logger is a plain one.
    """

    _only: EntryScript | None = None

    logger: logging.Logger
    """Writes to the file of this process among the user's logs, and to stderr like any logger."""
    log_dir: str
    """Folder of that file; the script may put files of its own there."""
    output_dir: str
    """The output folder."""
    agent_name: str
    """Name of the worker process on its node, such as ``process000``."""
    working_dir: str
    """The process's private folder, gone when it ends."""
    dir: str
    """Folder of the entry script."""

    def __new__(cls) -> EntryScript:  # noqa: PYI034 - Self is newer than the oldest Python that this runs under
        """Give the one that there is."""
        if cls._only is None:
            here = os.getcwd()
            cls._only = super().__new__(cls)
            cls._only.logger = logging.getLogger("EntryScript")
            cls._only.log_dir = cls._only.output_dir = cls._only.working_dir = cls._only.dir = here
            cls._only.agent_name = "process000"
        return cls._only


class NotRetryable(Exception):  # noqa: N818 - it says what is wanted, as AirflowSkipException does
    """Raised by run(): this mini-batch fails for good, however many tries it has left; by init(): the shard does."""

    __module__ = OUR_NAME


class RetryAfter(Exception):  # noqa: N818 - it says what is wanted
    """
    Raised by run(): the next try of this mini-batch should wait.

    :param seconds: how long at least.
    :param message: why.
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
    """Say what an exception of run() asks for, as a field of a message to the supervisor; empty: nothing."""
    if isinstance(error, NotRetryable):
        return {"retry": {"never": True}}
    # A subclass may leave the seconds out or change them, or make a property of them that raises.
    seconds = vars(error).get("seconds") if isinstance(error, RetryAfter) else None
    if isinstance(seconds, (int, float)) and 0 <= seconds < math.inf:
        return {"retry": {"after_s": float(seconds)}}
    return {}


class LogSender(logging.Handler):
    """
    Hands lines to the supervisor, which masks secrets in them before it writes the file.

    The first line goes at once, those that follow it closely go together.

    :param send: sends lines, each with its end; called from any thread.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__()
        self._send = send
        self._process = os.getpid()
        self._lines: list[str] = []
        self._size = 0
        self._sent = -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; in a copy of the process, whose lines stderr alone has, nothing happens."""
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
        except Exception:  # noqa: BLE001 - logging must not fail those who log; formatting runs their code
            self.handleError(record)

    def flush(self) -> None:
        """Send what has come so far."""
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
        except RuntimeError:  # the interpreter is ending and starts no threads any more
            self._send_lines()


def fill_in(
    *, folder: str, output_dir: str, agent_name: str, log_dir: str, level: str, send_log: Callable[[str], None]
) -> None:
    """
    Make the EntryScript of this process.

    :param folder: folder of the entry script.
    :param output_dir: the output folder.
    :param agent_name: name of this worker process.
    :param log_dir: folder of the file that has the lines of its logger.
    :param level: logging level of this logger.
    :param send_log: sends lines for that file to the supervisor.
    """
    entry_script = EntryScript()
    entry_script.dir = folder
    entry_script.output_dir = output_dir
    entry_script.agent_name = agent_name
    entry_script.log_dir = log_dir
    os.makedirs(log_dir, exist_ok=True)
    handler = LogSender(send_log)  # what it holds at the end is sent by logging itself, atexit
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    entry_script.logger.setLevel(level)
    entry_script.logger.addHandler(handler)


def offer_names() -> None:
    """
    Make EntryScript importable under every name that scripts know it by, the exceptions under ours.

    A module of the user's comes first, but under our name: an installed airflow_prs knows nothing of this process.
    """
    ours = {OUR_NAME: {"EntryScript": EntryScript, "NotRetryable": NotRetryable, "RetryAfter": RetryAfter}}
    theirs = {name: {"EntryScript": EntryScript} for name in NAMES}
    sys.meta_path.insert(0, stand_ins.StandIns(ours))
    sys.meta_path.append(stand_ins.StandIns({"airflow_prs": {}, **ours, "azureml_user": {}, **theirs}))
