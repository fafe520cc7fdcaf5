"""What run() returned, as rows of the result: the text format of the original, and the file that takes it."""

from __future__ import annotations

import importlib.util
import io
import os
import reprlib
import sys
import zlib
from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

REFUSED = (str, bytes, bytearray, memoryview, Mapping, Number)
"""Iterable or not, none of these has one element for each item."""

ACCEPTED = (
    "it must return a pandas DataFrame, or a list, tuple or other iterable with an element for each item that succeeded"
)

NOTHING = "None (is a return statement missing?)"

WRITE_SIZE = 1024 * 1024
"""In characters or bytes: however much run() returned, no more than this is held as text at a time."""

SETTINGS = "parallel_run_step.settings.json"
"""The file of the original's that holds arguments of to_csv."""

TEXT = {"sep": " ", "header": False, "index": False}
"""How the original calls to_csv."""

WORTH_ARROW_CELLS = 500_000
"""From so many cells on pyarrow saves more time than its import takes."""

ENCODING: tuple[str, str] = ("utf-8", "surrogateescape")
"""File names may hold bytes that are no text; they come out as they came in."""


class BadResultError(Exception):
    """run() returned something that is not one element for each item."""


def elements_of(result: Any) -> Any:
    """
    Accept what run() returned; what is made while it is iterated (a generator) is made now.

    :returns: something with a length.
    :raises BadResultError: if it is nothing that has elements.
    """
    if type(result) in (list, tuple) or is_data_frame(result):
        return result
    if not _has_elements(result):
        what = f"{reprlib.repr(result)}, which is of type {type(result).__name__}"
        raise BadResultError(f"run() returned {NOTHING if result is None else what}; {ACCEPTED}")
    return result if hasattr(result, "__len__") else list(result)


def write_elements(elements: Any, write: Callable[[bytes], Any]) -> None:
    """
    Write elements as lines, as the original does.

    :param elements: what elements_of() gave.
    :param write: takes the next bytes.
    :raises BadResultError: if the number of elements is not its length.
    """
    if is_data_frame(elements):
        write_frame(elements, write, TEXT)
    else:
        write_lines(elements, write)


def write_lines(elements: Any, write: Callable[[bytes], Any]) -> None:
    """Write each element on a line; see write_elements()."""
    lines: list[str] = []
    size = count = 0
    for element in elements:
        line = str(element)
        lines.append(line)
        size += len(line) + 1
        if size > WRITE_SIZE:
            count += _write_lines(lines, write)
            lines, size = [], 0
    count += _write_lines(lines, write)
    if count != len(elements):
        raise BadResultError(
            f"run() returned a {type(elements).__name__} of length {len(elements)} "
            f"that has {count} elements; {ACCEPTED}"
        )


class RowsFile:
    """
    The rows file of this process; nobody else writes to it.

    :param fd: the file, open for appending.
    :param writer: makes bytes of elements, as write_elements() does.
    """

    def __init__(self, fd: int, writer: Callable[[Any, Callable[[bytes], Any]], None] = write_elements) -> None:
        self._fd = fd
        self._writer = writer
        self._end = os.fstat(fd).st_size
        self._crc = 0

    def append(self, elements: Any) -> tuple[int, int, int]:
        """
        Append elements as rows, whole or not at all.

        :returns: offset, length and CRC-32 of their bytes.
        """
        offset = self._end
        self._crc = 0
        try:
            self._writer(elements, self._write)
        except BaseException:
            self._take_back(offset)
            raise
        return offset, self._end - offset, self._crc

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._end += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def _take_back(self, offset: int) -> None:
        try:
            os.ftruncate(self._fd, offset)
        finally:
            self._end = os.fstat(self._fd).st_size


def _write_lines(lines: list[str], write: Callable[[bytes], Any]) -> int:
    count = len(lines)
    if count:
        lines.append("")
        write("\n".join(lines).encode(*ENCODING))
    return count


def write_frame(frame: Any, write: Callable[[bytes], Any], options: Mapping[str, Any]) -> None:
    """
    Write what pandas' to_csv writes, never much of it at a time; with Arrow where that is the same and faster.

    :param options: arguments of to_csv.
    """
    if options == {**TEXT, "sep": options.get("sep", ",")} and _is_worth_arrow(frame):
        from . import rows_arrow  # noqa: TID252 - as in process.py; it imports pyarrow

        sep = options.get("sep", ",")
        if rows_arrow.suits(frame, sep):
            rows_arrow.write_slices(
                frame,
                sep,
                lambda text: _write_parts(text, write),
                lambda part: _write_as_pandas(part, write, options),
            )
            return
    _write_as_pandas(frame, write, options)


def _is_worth_arrow(frame: Any) -> bool:
    """Whether pyarrow is there, imported or with enough to do for it."""
    if "pyarrow" in sys.modules:
        return True
    return frame.size >= WORTH_ARROW_CELLS and importlib.util.find_spec("pyarrow") is not None


def _write_parts(text: memoryview, write: Callable[[bytes], Any]) -> None:
    for start in range(0, len(text), WRITE_SIZE):
        write(bytes(text[start : start + WRITE_SIZE]))


def _write_as_pandas(frame: Any, write: Callable[[bytes], Any], options: Mapping[str, Any]) -> None:
    raw = Raw(write)
    text = io.TextIOWrapper(io.BufferedWriter(raw, WRITE_SIZE), *ENCODING, newline="")
    try:
        frame.to_csv(text, **options)
        text.flush()
    finally:
        raw.is_over = True  # what is left after an error is not to be written by those who close


class Raw(io.RawIOBase):
    """The end of a stack of Python's writers."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self.is_over = False

    def writable(self) -> bool:
        """Say that it takes bytes."""
        return True

    def write(self, data: Any) -> int:
        """Pass bytes on, unless it is over."""
        if not self.is_over:
            self._write(data)
        return len(data)


def _has_elements(result: Any) -> bool:
    if isinstance(result, REFUSED):
        return False
    try:
        iter(result)
    except TypeError:
        return False
    return True


def is_data_frame(result: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas: who returns one has imported it."""
    data_frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return data_frame is not None and isinstance(result, data_frame)
