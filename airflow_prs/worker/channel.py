"""
The channel between a worker process and the supervisor, and the codec of both: messages in frames behind their length.

A message is an object in JSON. Two are binary, and start with a byte that no JSON starts with: ``{"done": Done(...)}``,
the answer to a mini-batch that succeeded, is the most frequent message by far, and JSON takes seven times as long.
``{"layout": Revision(...)}`` has bytes that must not change.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import values  # noqa: TID252

if TYPE_CHECKING:
    from queue import SimpleQueue

OUT_OF_THE_WAY = 64
"""Our descriptors get this number or a higher one: run() may close or replace 0 to 2."""

_HEADER_BYTES = 4
READ_BYTES = 1 << 16

_DONE_MARK = 0
_DONE = struct.Struct(">BqqqqIdddd")
"""Mark, and the fields of Done."""

_LAYOUT_MARK = 1
_LAYOUT = struct.Struct(">BIq")
"""Mark, and the fields of Revision but for its content, which follows."""

_encode = json.JSONEncoder(separators=(",", ":"), default=values.encode).encode


class Done(NamedTuple):
    """
    The answer to a mini-batch that succeeded.

    :param minibatch_index: of the mini-batch.
    :param returned: elements that run() returned.
    :param offset: first byte of its rows in the rows file of the process.
    :param length: bytes of its rows.
    :param crc: CRC-32 of these bytes.
    :param started: moment at which the process took it up, seconds since the epoch (UTC).
    :param duration_s: from then on until its rows were written.
    :param run_s: inside run().
    :param cpu_s: CPU time of the process meanwhile.
    """

    minibatch_index: int
    returned: int
    offset: int
    length: int
    crc: int
    started: float
    duration_s: float
    run_s: float
    cpu_s: float


class Revision(NamedTuple):
    """
    A revision of the layout that the rows of all mini-batches share, as a question or as its answer.

    :param question: number of the question, which the answer repeats.
    :param number: of the revision that is proposed, or of the newest one; -1: there is none.
    :param content: of that revision; b"" in a question: nothing is proposed.
    """

    question: int
    number: int
    content: bytes


class SupervisorGoneError(Exception):
    """The other end of the channel is closed."""


class ChannelClosedError(Exception):
    """This process has closed its own end."""

    def __init__(self) -> None:
        super().__init__(
            "The entry script has closed a file descriptor of its worker process, which cannot go on without it; "
            "allowed: to close what the script itself has opened, and 0 to 2. Is there a call of os.closerange()?"
        )


class Channel:
    """
    The worker's end of the channel. Messages may be sent from any thread.

    :param fd: a connected stream socket; it is moved and not inherited by what the user's code starts.
    """

    def __init__(self, fd: int) -> None:
        self._fd = out_of_the_way(fd)
        os.set_blocking(self._fd, True)
        self._received = bytearray()
        self._kept: list[dict[str, Any]] = []
        self._questions = 0
        self._answers: SimpleQueue[dict[str, Any] | None] | None = None
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor, to wait until there is something to receive."""
        return self._fd

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message and return it; None when the other end is closed."""
        if self._answers is None:
            return self._kept.pop(0) if self._kept else self._receive_next()
        message: dict[str, Any] | None = None
        try:
            while (message := self._kept.pop(0) if self._kept else self._receive_next()) is not None:
                if "layout" not in message:
                    break
                self._answers.put(message)
        finally:
            if message is None:
                self._answers.put(None)
        return message

    def share(self) -> None:
        """Let one thread receive and another one ask, from now on."""
        from queue import SimpleQueue  # takes a moment; few scripts need it

        self._answers = SimpleQueue()

    def _receive_next(self) -> dict[str, Any] | None:
        header = self._take(_HEADER_BYTES)
        body = None if header is None else self._take(int.from_bytes(header, "big"))
        return None if body is None else decode_frame(body)

    def receive_available(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived completely, without waiting."""
        kept, self._kept = self._kept, []
        return [*kept, *map(decode_frame, take_frames(self._received))]

    def ask_layout(self, number: int, content: bytes) -> tuple[int, bytes]:
        """
        Ask for the layout and wait for the answer; other messages that arrive meanwhile are received later.

        Before share() only the thread that receives messages may ask.

        :param number: of a revision.
        :param content: what to propose for it; b"": nothing.
        :return: number and content of the newest revision; -1 and b"" if there is none.
        :raises SupervisorGoneError: if the other end is closed.
        """
        self._questions += 1
        self.send({"layout": Revision(self._questions, number, content)})
        while (message := self._next_answer()) is not None:
            answer = message.get("layout")
            if answer is None:
                self._kept.append(message)
            # An exception, such as one of a signal handler, may have ended the wait for an earlier answer.
            elif answer.question == self._questions:
                return answer.number, answer.content
        raise SupervisorGoneError

    def _next_answer(self) -> dict[str, Any] | None:
        return self._receive_next() if self._answers is None else self._answers.get()

    def read(self) -> bool:
        """Read what has arrived, and wait if nothing has; return False when the other end is closed."""
        try:
            more = os.read(self._fd, READ_BYTES)
        except ConnectionResetError:
            return False
        except OSError as error:
            raise _explained(error) from None
        self._received += more
        return bool(more)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        rest = memoryview(encode_frame(message))
        try:
            with self._sending:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except (BrokenPipeError, ConnectionResetError):
            raise SupervisorGoneError from None
        except OSError as error:
            raise _explained(error) from None

    def close(self) -> None:
        """Close this end."""
        os.close(self._fd)

    def _take(self, size: int) -> bytearray | None:
        received = self._received
        while len(received) < size:
            if not self.read():
                return None
        taken = received[:size]
        del received[:size]
        return taken


def encode_frame(message: Mapping[str, Any]) -> bytes:
    """Return a message in a frame."""
    if (done := message.get("done")) is not None:
        body = _DONE.pack(_DONE_MARK, *done)
    elif (layout := message.get("layout")) is not None:
        question, number, content = layout
        body = _LAYOUT.pack(_LAYOUT_MARK, question, number) + content
    else:
        body = _encode(message).encode("ascii")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


def take_frames(received: bytearray) -> list[bytearray]:
    """Remove the complete frames from what was received, and return them without their lengths."""
    frames = []
    start = 0
    while len(received) - start >= _HEADER_BYTES:
        begin = start + _HEADER_BYTES
        end = begin + int.from_bytes(received[start:begin], "big")
        if len(received) < end:
            break
        frames.append(received[begin:end])
        start = end
    del received[:start]
    return frames


def decode_frame(frame: bytes | bytearray) -> dict[str, Any]:
    """Return the message of a frame without its length."""
    if frame[0] == _DONE_MARK:
        return {"done": Done._make(_DONE.unpack(frame)[1:])}
    if frame[0] == _LAYOUT_MARK:
        _, question, number = _LAYOUT.unpack_from(frame)
        return {"layout": Revision(question, number, bytes(frame[_LAYOUT.size :]))}
    message: dict[str, Any] = json.loads(frame)
    return message


def _explained(error: OSError) -> Exception:
    return ChannelClosedError() if error.errno == errno.EBADF else error


def out_of_the_way(fd: int) -> int:
    """Move a descriptor to a high number, and close it in programs that this process starts."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
