"""
The worker's end of the private pipe to the supervisor: frames, each behind its length.

A frame is a JSON object, but for the answer to a mini-batch that succeeded, ``{"done": [...]}``, which is the most
frequent one by far: it has a byte that no JSON begins with and its numbers in binary.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import threading
from typing import Any, NamedTuple

OUT_OF_THE_WAY = 64
"""Our descriptors get this number or a higher one: run() may close or replace 0 to 2."""

HEADER_BYTES = 4
READ_BYTES = 1 << 16

DONE_MARK = 0
DONE = struct.Struct(">BqqqqIdddd")
"""Mark, and the fields of Done."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


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


class SupervisorGoneError(Exception):
    """Nobody listens at the other end any more."""


class ChannelClosedError(Exception):
    """This process has closed its own end."""

    def __init__(self) -> None:
        super().__init__(
            "The entry script has closed a file descriptor of its worker process, which cannot go on without it; "
            "allowed: to close what the script itself has opened, and 0 to 2. Is there a call of os.closerange()?"
        )


class Channel:
    """
    Frames in and out, in order; any number of them may be on their way.

    Frames may be sent from any thread.

    :param fd: a connected stream socket; it is moved and not inherited by what the user's code starts.
    """

    def __init__(self, fd: int) -> None:
        self._fd = out_of_the_way(fd)
        os.set_blocking(self._fd, True)
        self._received = bytearray()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Give the descriptor, to wait until there is something to receive."""
        return self._fd

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next frame; None when the other end is closed."""
        header = self._take(HEADER_BYTES)
        body = None if header is None else self._take(int.from_bytes(header, "big"))
        return None if body is None else decode_body(body)

    def receive_whole(self) -> list[dict[str, Any]]:
        """Take the frames that have come whole, without waiting."""
        return list(map(decode_body, take_bodies(self._received)))

    def read(self) -> bool:
        """Take in what has come, waiting for something; False when the other end is closed."""
        try:
            more = os.read(self._fd, READ_BYTES)
        except ConnectionResetError:
            return False
        except OSError as error:
            raise _explained(error) from None
        self._received += more
        return bool(more)

    def send(self, message: dict[str, Any]) -> None:
        """Send one frame, whole."""
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


def encode_frame(message: dict[str, Any]) -> bytes:
    """Make a frame of a message."""
    done = message.get("done")
    body = _encode(message).encode("ascii") if done is None else DONE.pack(DONE_MARK, *done)
    return with_length(body)


def with_length(body: bytes) -> bytes:
    """Put a frame behind its length."""
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def take_bodies(received: bytearray) -> list[bytearray]:
    """Take the frames that have come whole, without their lengths, out of what was received."""
    bodies = []
    start = 0
    while len(received) - start >= HEADER_BYTES:
        begin = start + HEADER_BYTES
        end = begin + int.from_bytes(received[start:begin], "big")
        if len(received) < end:
            break
        bodies.append(received[begin:end])
        start = end
    del received[:start]
    return bodies


def decode_body(body: bytes | bytearray) -> dict[str, Any]:
    """Read a frame without its length."""
    if body[0] == DONE_MARK:
        return {"done": list(DONE.unpack(body)[1:])}
    message: dict[str, Any] = json.loads(body)
    return message


def _explained(error: OSError) -> Exception:
    return ChannelClosedError() if error.errno == errno.EBADF else error


def out_of_the_way(fd: int) -> int:
    """Move an open descriptor to a high number, closed in programs that this process starts."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
