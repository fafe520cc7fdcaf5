"""
The worker's end of the private pipe to the supervisor: frames, each behind its length.

A frame is a JSON object, but for the answer to a mini-batch that succeeded, ``{"done": [...]}``, which is the most
frequent one by far: it has a byte that no JSON begins with and its numbers in binary.
"""

from __future__ import annotations

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
DONE = struct.Struct(">IBqqqqIdddd")
"""Length of what follows, mark, and the fields of Done."""

_DONE_BYTES = DONE.size - HEADER_BYTES
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
        frames = []
        received = self._received
        while len(received) >= HEADER_BYTES:
            size = HEADER_BYTES + int.from_bytes(received[:HEADER_BYTES], "big")
            if len(received) < size:
                break
            frames.append(decode_body(received[HEADER_BYTES:size]))
            del received[:size]
        return frames

    def read(self) -> bool:
        """Take in what has come, waiting for something; False when the other end is closed."""
        try:
            more = os.read(self._fd, READ_BYTES)
        except ConnectionResetError:
            return False
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
    """Put a message behind its length."""
    done = message.get("done")
    if done is not None:
        return DONE.pack(_DONE_BYTES, DONE_MARK, *done)
    body = _encode(message).encode("ascii")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def decode_body(body: bytes | bytearray) -> dict[str, Any]:
    """Read a frame without its length."""
    if body[0] == DONE_MARK:
        return {"done": list(DONE.unpack(bytes(HEADER_BYTES) + body)[2:])}
    message: dict[str, Any] = json.loads(body)
    return message


def out_of_the_way(fd: int) -> int:
    """Move an open descriptor to a high number, closed in programs that this process starts."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
