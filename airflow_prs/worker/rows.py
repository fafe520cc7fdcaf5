"""What run() returned, as rows of the result: the text format of the original, and the file that takes it."""

from __future__ import annotations

import os
import reprlib
import sys
import zlib
from collections.abc import Mapping
from numbers import Number
from typing import Any

REFUSED = (str, bytes, bytearray, memoryview, Mapping, Number)
"""Iterable or not, none of these has one element for each item."""

ACCEPTED = (
    "it must return a pandas DataFrame, or a list, tuple or other iterable with an element for each item that succeeded"
)

NOTHING = "None (is a return statement missing?)"


class BadResultError(Exception):
    """run() returned something that is not one element for each item."""


def elements_of(result: Any) -> Any:
    """
    Accept what run() returned; what is made while it is iterated (a generator) is made now.

    :returns: something with a length.
    :raises BadResultError: if it is nothing that has elements.
    """
    if type(result) in (list, tuple) or _is_data_frame(result):
        return result
    if not _has_elements(result):
        what = f"{reprlib.repr(result)}, which is of type {type(result).__name__}"
        raise BadResultError(f"run() returned {NOTHING if result is None else what}; {ACCEPTED}")
    return result if hasattr(result, "__len__") else list(result)


def as_text(elements: Any) -> bytes:
    """
    Turn elements into lines, as the original writes them.

    :raises BadResultError: if the number of elements is not its length.
    """
    if _is_data_frame(elements):
        text: str = elements.to_csv(sep=" ", header=False, index=False)
    else:
        lines = [str(element) for element in elements]
        if len(lines) != len(elements):
            raise BadResultError(
                f"run() returned a {type(elements).__name__} of length {len(elements)} "
                f"that has {len(lines)} elements; {ACCEPTED}"
            )
        lines.append("")
        text = "\n".join(lines)
    # File names may hold bytes that are no text; they come out as they came in.
    return text.encode("utf-8", "surrogateescape")


class RowsFile:
    """
    The rows file of this process; nobody else writes to it.

    :param fd: the file, open for appending.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def append(self, data: bytes) -> tuple[int, int, int]:
        """
        Append data whole or not at all.

        :returns: its offset, length and CRC-32.
        """
        offset = self._end
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            self._take_back(offset)
            raise
        self._end = offset + len(data)
        return offset, len(data), zlib.crc32(data)

    def _take_back(self, offset: int) -> None:
        try:
            os.ftruncate(self._fd, offset)
        finally:
            self._end = os.fstat(self._fd).st_size


def _has_elements(result: Any) -> bool:
    if isinstance(result, REFUSED):
        return False
    try:
        iter(result)
    except TypeError:
        return False
    return True


def _is_data_frame(result: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas: who returns one has imported it."""
    data_frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return data_frame is not None and isinstance(result, data_frame)
