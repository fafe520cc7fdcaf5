"""The worker's end of the private pipe to the supervisor: JSON objects, each behind its length."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from typing import Any

OUT_OF_THE_WAY = 64
"""Our descriptors get this number or a higher one: run() may close or replace 0 to 2."""

HEADER_BYTES = 4
READ_BYTES = 1 << 16

_encode = json.JSONEncoder(separators=(",", ":")).encode


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
        return None if body is None else json.loads(body)

    def receive_whole(self) -> list[dict[str, Any]]:
        """Take the frames that have come whole, without waiting."""
        frames = []
        received = self._received
        while len(received) >= HEADER_BYTES:
            size = HEADER_BYTES + int.from_bytes(received[:HEADER_BYTES], "big")
            if len(received) < size:
                break
            frames.append(json.loads(received[HEADER_BYTES:size]))
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
    body = _encode(message).encode("ascii")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def out_of_the_way(fd: int) -> int:
    """Move an open descriptor to a high number, closed in programs that this process starts."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
