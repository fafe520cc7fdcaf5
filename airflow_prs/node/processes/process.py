"""Starts a worker process under a guard, exchanges messages with it, and ends it with all that it has started."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.node.machine.memory import MemoryWitness
from airflow_prs.node.processes.output import LogFile, LogWriter, OutputPump, TaskLog
from airflow_prs.worker.channel import decode_frame, encode_frame, take_frames

Message = dict[str, Any]
"""What a worker process sends."""

_WORDS = frozenset({"status", "stage"})
"""Fields that hold a word of the protocol; the text of any other field may hold a secret."""

_RUNTIME = Path(__file__).parent.parent.parent / "worker"
_DRAIN_S = 5.0
_NO_PROGRAM = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors of a path that is not a program of this machine. Others, such as too little memory, may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlan:
    """
    How a worker process is started.

    :param number: unique within the node; a replacement has another one.
    :param name: ``process000``.
    :param interpreter: the Python that runs the entry script.
    :param directory: its working directory.
    :param node_directory: the node's folder, which the guard removes if the supervisor dies.
    :param environment: its environment variables.
    :param setup: the first message: all that it needs to know.
    """

    number: int
    name: str
    interpreter: str
    directory: Path
    node_directory: Path
    environment: Mapping[str, str]
    setup: Mapping[str, Any]


class _Frames(asyncio.Protocol):
    """
    Decodes the messages of a worker process.

    :param redact: masks secrets in their texts, before any is kept or shown.
    """

    def __init__(self, on_messages: Callable[[list[Message]], None], redact: Callable[[str], str]) -> None:
        self.closed = asyncio.Event()
        self._on_messages = on_messages
        self._redact = redact
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if messages := list(map(self._decode, take_frames(self._buffer))):
            self._on_messages(messages)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed.set()

    def _decode(self, frame: bytearray) -> Message:
        message = decode_frame(frame)
        # An answer that has only numbers is the most frequent message by far.
        return message if "done" in message else _masked(message, self._redact)


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: part if name in _WORDS else _masked(part, redact) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(part, redact) for part in value]
    return redact(value) if isinstance(value, str) else value


class _Sender:
    """
    Writes to the channel, also if the process is gone.

    asyncio's own transport closes when a write fails, and the last answers of a process that died would be lost unread.
    So this has a descriptor of its own.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel.dup()
        self._socket.settimeout(0)
        self._waiting = bytearray()
        self._is_full = False

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) == len(data):
            self._send()

    def close(self) -> None:
        self._waiting.clear()
        asyncio.get_running_loop().remove_writer(self._socket)
        self._socket.close()

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                del self._waiting[: self._socket.send(self._waiting)]
        except BlockingIOError:
            if not self._is_full:
                self._is_full = True
                loop.add_writer(self._socket, self._send)
            return
        except OSError:
            # The process is gone. The reading side finds that by itself.
            self._waiting.clear()
        if self._is_full:
            self._is_full = False
            loop.remove_writer(self._socket)


class _Control(asyncio.Protocol):
    """Reads from the guard how the process ended."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.exit_code: int | None = None
        self.start_errno: int | None = None
        self._data = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            self.exit_code = told.get("exit", self.exit_code)
            self.start_errno = told.get("start_errno", self.start_errno)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed.set()


class WorkerProcess:
    """
    A worker process and its guard.

    :param plan: how it was started.
    """

    def __init__(
        self,
        plan: ProcessPlan,
        *,
        guard: subprocess.Popen[bytes],
        sender: _Sender,
        channel: asyncio.Transport,
        frames: _Frames,
        control: tuple[asyncio.Transport, _Control],
        pumps: list[OutputPump],
        script_log: LogFile,
        log_writer: LogWriter,
    ) -> None:
        self.plan = plan
        self._guard = guard
        self._sender = sender
        self._channel = channel
        self._frames = frames
        self._control_transport, self._control = control
        self._pumps = pumps
        self._script_log = script_log
        self._log_writer = log_writer
        self._memory = MemoryWitness()
        self._is_killed = False

    def send(self, *messages: Mapping[str, Any]) -> None:
        """Send messages; nothing happens if the process is gone."""
        self._sender.write(b"".join(map(encode_frame, messages)))

    def rest(self, seconds: float) -> None:
        """Read nothing for some time, so that answers are read in groups and not one by one."""
        if not self._channel.is_closing() and self._channel.is_reading():
            self._channel.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._channel.is_closing():
            self._channel.resume_reading()

    def log_for_script(self, lines: str) -> None:
        """Write lines of the entry script's own logger to its log file."""
        self._log_writer.write(self._script_log, lines.encode("utf-8", "backslashreplace"))

    @property
    def is_held_up(self) -> bool:
        """Whether it may be blocked by storage that does not take what it prints."""
        return any(pump.is_held_up for pump in self._pumps)

    def kill(self) -> None:
        """Kill it with everything that it has started."""
        self._is_killed = True
        if not self._control_transport.is_closing():
            self._control_transport.write(b"k")
            # The script may have stopped its guard, which would never read this.
            self._guard.send_signal(signal.SIGCONT)

    async def wait(self) -> None:
        """Wait until it and its descendants are gone and everything that they wrote has been read."""
        await self._control.closed.wait()
        await asyncio.to_thread(self._guard.wait)
        ends = [self._frames.closed.wait(), *(pump.ended.wait() for pump in self._pumps)]
        # Only a descendant that outlived its guard could hold these open.
        await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=_DRAIN_S)
        self._channel.close()
        self._sender.close()

    @property
    def has_no_interpreter(self) -> bool:
        """Whether it could not be started, and another try would fail, too."""
        return self._control.start_errno in _NO_PROGRAM

    @property
    def death(self) -> str:
        """How it ended, as text."""
        code = self._control.exit_code
        if self._control.start_errno is not None:
            return f"{self.plan.interpreter} cannot be started: {os.strerror(self._control.start_errno)}"
        if code is None:
            return "its guard was killed"
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            reason = self._memory.explain() if -code == signal.SIGKILL and not self._is_killed else ""
            return f"killed by {name}; {reason}" if reason else f"killed by {name}"
        return f"exited with code {code}"


async def start_process(
    plan: ProcessPlan,
    *,
    on_messages: Callable[[list[Message]], None],
    log_files: Mapping[str, Path],
    log_writer: LogWriter,
    task_log: TaskLog,
    redact: Callable[[str], str],
) -> WorkerProcess:
    """
    Start a worker process.

    :param on_messages: called with messages of the process, in order, in the event loop.
    :param log_files: where ``stdout``, ``stderr`` and ``entry_script_log`` go.
    :param log_writer: writes to them.
    :param redact: masks secrets in all that the process prints and sends.
    """
    loop = asyncio.get_running_loop()
    channel_here, channel_there = socket.socketpair()
    control_here, control_there = socket.socketpair()
    with channel_there, control_there:
        guard = _spawn(plan, control_there.fileno(), channel_there.fileno())
    sender = _Sender(channel_here)
    channel, frames = await loop.create_connection(lambda: _Frames(on_messages, redact), sock=channel_here)
    control = await loop.create_connection(_Control, sock=control_here)
    pumps = []
    for name, pipe in (("stdout", guard.stdout), ("stderr", guard.stderr)):
        pump = OutputPump(LogFile(log_files[name]), log_writer, task_log, redact)
        await loop.connect_read_pipe(lambda pump=pump: pump, pipe)  # type: ignore[misc]
        pumps.append(pump)
    process = WorkerProcess(
        plan,
        guard=guard,
        sender=sender,
        channel=channel,
        frames=frames,
        control=control,
        pumps=pumps,
        script_log=LogFile(log_files["entry_script_log"]),
        log_writer=log_writer,
    )
    process.send({"setup": plan.setup})
    return process


def _spawn(plan: ProcessPlan, control: int, channel: int) -> subprocess.Popen[bytes]:
    guard = [sys.executable, "-I", "-S", str(_RUNTIME / "guard.py"), str(control), str(channel)]
    worker = [plan.interpreter, "-u", str(_RUNTIME / "process.py"), str(channel)]
    return subprocess.Popen(
        [*guard, str(plan.directory), str(plan.node_directory), "--", *worker],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=plan.directory,
        env=dict(plan.environment),
        pass_fds=(control, channel),
        # A Ctrl-C at the terminal is handled by the supervisor.
        start_new_session=True,
    )
