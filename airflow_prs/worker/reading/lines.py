"""Line numbers in a file, also where only a part of the file was read."""

from __future__ import annotations

from collections.abc import Callable

_BLOCK_BYTES = 1024 * 1024


class LineError(ValueError):
    """
    A line cannot be read.

    :param number: number of the line in the text that was read, from 1.
    :param problem: the rest of the sentence "line <number> …".
    """

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"line {number} {problem}")
        self.number = number
        self.problem = problem


def line_feeds_in(block: bytes, before: bytes = b"") -> int:  # noqa: ARG001 - same signature as breaks_in
    """Return the number of line ends, where only LF ends a line."""
    return block.count(b"\n")


def breaks_in(block: bytes, before: bytes = b"") -> int:
    """
    Return the number of line ends: LF, CR LF or CR.

    :param before: the last byte of the previous block; a CR there has been counted already.
    """
    return block.count(b"\n") + block.count(b"\r") - (before + block).count(b"\r\n")


def decode(data: bytes, encoding: str, count: Callable[[bytes], int] = line_feeds_in, *, is_whole: bool) -> str:
    """
    Return a decoded text.

    :param count: counts the line ends in a block.
    :param is_whole: whether the data is the entire file, which may begin with a byte order mark.
    :raises LineError: if the data is not in this encoding.
    """
    shield = b"" if is_whole else b"\n"  # without it some codecs would drop text that looks like a byte order mark
    try:
        text = (shield + data).decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[len(shield) : error.start].decode(encoding, "ignore")
        number = count(before.encode("utf-8", "replace")) + 1
        raise LineError(number, f"is not in the encoding {encoding!r}: {error.reason}") from None
    return text.removeprefix("\ufeff") if is_whole else text[1:]


class LineNumbers:
    """
    Finds line numbers in files, and remembers the last one: mini-batches mostly come in order.

    :param count: counts the line ends in a block.
    """

    def __init__(self, count: Callable[[bytes, bytes], int] = line_feeds_in) -> None:
        self._count = count
        self._path = ""
        self._position = self._breaks = 0

    def at(self, path: str, position: int) -> int:
        """Return the number of the line that begins at a byte, from 1."""
        if path != self._path or position < self._position:
            self._path, self._position, self._breaks = path, 0, 0
        last = b""
        with open(path, "rb") as file:
            file.seek(self._position)
            while block := file.read(min(position - self._position, _BLOCK_BYTES)):
                self._position += len(block)
                self._breaks += self._count(block, last)
                last = block[-1:]
        return self._breaks + 1
