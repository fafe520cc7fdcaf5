"""What run() returned, as rows of the result: the text format of the original, and the file that takes it."""

from __future__ import annotations

import importlib.util
import io
import os
import reprlib
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from numbers import Number
from typing import Any

# Relative, as this package has another name where it is at work.
from . import carriage_returns, moments, unabridged  # noqa: TID252

REFUSED = (str, bytes, bytearray, memoryview, Mapping, Number)
"""Iterable or not, none of these has one element for each item."""

ACCEPTED = (
    "it must return a pandas DataFrame, or a list, tuple or other iterable with an element for each item that succeeded"
)

NOTHING = "None (is a return statement missing?)"

WRITE_SIZE = 1024 * 1024
"""In characters or bytes: however much run() returned, no more than this is held as text at a time."""

CHUNK = 100
"""Elements that are made text together."""

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
    if type(result) in (list, tuple) or is_data_frame(result) or is_arrow_table(result):
        return result
    if hasattr(type(result), "__dataframe__"):
        name = unabridged.name_of(type(result))
        raise BadResultError(f"run() returned a {name}; return what its to_pandas() or to_arrow() gives")
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
    if is_data_frame(elements) or is_arrow_table(elements):
        write_frame(as_frame(elements), write, TEXT)
    else:
        write_lines(elements, write)


def write_lines(elements: Any, write: Callable[[bytes], Any]) -> None:
    """Write each element on a line; see write_elements()."""
    held: list[str] = []
    size = count = 0
    iterator = iter(_at_hand(elements))
    with unabridged.Printer() as printer:
        while chunk := list(islice(iterator, CHUNK)):
            text = _text_of(chunk, count, printer)
            count += len(chunk)
            if held and size + len(text) > WRITE_SIZE:
                _write_text("".join(held), write)
                held, size = [], 0
            held.append(text)
            size += len(text)
    _write_text("".join(held), write)
    if count != len(elements):
        raise BadResultError(
            f"run() returned a {type(elements).__name__} of length {len(elements)} "
            f"that has {count} elements; {ACCEPTED}"
        )


def _at_hand(elements: Any) -> Any:
    """Make what the user's own code makes while it is iterated, before options of printing change."""
    is_known = isinstance(elements, (list, tuple)) or hasattr(elements, "dtype")
    return elements if is_known else list(elements)


def _write_text(text: str, write: Callable[[bytes], Any]) -> None:
    for start in range(0, len(text), WRITE_SIZE):
        write(text[start : start + WRITE_SIZE].encode(*ENCODING))


def _text_of(elements: list[Any], first: int, printer: unabridged.Printer) -> str:
    """
    Give the text of each element, on one line but for what is text itself.

    :param first: number of the first of them.
    """
    kinds = set(map(type, elements))
    if kinds == {str}:
        return "\n".join([*elements, ""])
    is_plain = kinds <= unabridged.PLAIN
    if not is_plain and kinds != printer.prepared:
        for kind in filter(unabridged.is_table, kinds):
            raise _table_in(kind, first + next(n for n, element in enumerate(elements) if type(element) is kind))
        printer.prepare(kinds)
    lines = [*map(str, elements), ""]
    text = "\n".join(lines)
    if is_plain or text.count("\n") < len(lines):
        return text
    return "\n".join([*map(_on_one_line, lines, range(first, first + len(elements)), elements), ""])


def _on_one_line(text: str, number: int, element: Any) -> str:
    if "\n" not in text or isinstance(element, (str, os.PathLike)):
        return text
    if kind := unabridged.find_table(element):
        raise _table_in(kind, number)
    return unabridged.on_one_line(text)


def _table_in(kind: type, number: int) -> BadResultError:
    return BadResultError(
        f"element {number} of what run() returned is or holds a {unabridged.name_of(kind)}, whose text leaves out rows "
        "and columns; return one DataFrame of all rows (pandas.concat), and choose append_row_format 'csv', 'jsonl' or "
        "'parquet' to keep the names of its columns"
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


def write_frame(frame: Any, write: Callable[[bytes], Any], options: Mapping[str, Any]) -> None:
    """
    Write what pandas' to_csv writes, never much of it at a time; with Arrow where that is the same and faster.

    Other than there, moments have one format, and a carriage return is quoted by every Python.

    :param options: arguments of to_csv.
    """
    frame = moments.in_one_format(frame, options)
    if options == {**TEXT, "sep": options.get("sep", ",")} and _is_worth_arrow(frame):
        from . import rows_arrow  # noqa: TID252 - as in process.py; it imports pyarrow

        sep = options.get("sep", ",")
        if rows_arrow.suits(frame, sep):
            rows_arrow.write_slices(
                frame,
                sep,
                lambda text: _write_parts(text, write),
                lambda part: write_as_pandas(part, write, options),
            )
            return
    write_as_pandas(frame, write, options)


def _is_worth_arrow(frame: Any) -> bool:
    """Whether pyarrow is there, imported or with enough to do for it."""
    if "pyarrow" in sys.modules:
        return True
    return frame.size >= WORTH_ARROW_CELLS and importlib.util.find_spec("pyarrow") is not None


def _write_parts(text: memoryview, write: Callable[[bytes], Any]) -> None:
    for start in range(0, len(text), WRITE_SIZE):
        write(bytes(text[start : start + WRITE_SIZE]))


def write_as_pandas(frame: Any, write: Callable[[bytes], Any], options: Mapping[str, Any]) -> None:
    """Write what pandas' to_csv writes; see write_frame()."""
    raw = Raw(write)
    try:
        with unabridged.Printer() as printer:
            frame = _look_at_objects(frame, printer)
            makes_sure = carriage_returns.may_be_in(frame, with_index=options.get("index", True))
            kind = _QuotingText if makes_sure else io.TextIOWrapper
            text = kind(io.BufferedWriter(raw, WRITE_SIZE), *ENCODING, newline="")
            if makes_sure:
                options = {**options, "lineterminator": (options.get("lineterminator") or "\n") + "\r\n"}
            frame.to_csv(text, **options)
        text.flush()
    finally:
        raw.is_over = True  # what is left after an error is not to be written by those who close


class _QuotingText(io.TextIOWrapper):
    """
    Takes the rows that csv writes, each with a line break of two characters too many at its end.

    Versions of Python differ in whether they quote a carriage return; all do if it is a part of what ends a row.
    """

    def write(self, row: str) -> int:
        """Take a row, without what is too many."""
        return super().write(row[:-2])


def _look_at_objects(frame: Any, printer: unabridged.Printer) -> Any:
    """
    Prepare for the objects in a DataFrame, and give it with moments among them as text.

    :raises BadResultError: if one is a table, whose text is not all of it.
    """
    found: set[type] = set()
    changed = frame
    for place in (place for place, dtype in enumerate(frame.dtypes) if str(dtype) == "object"):
        values = frame.iloc[:, place].to_numpy()
        kinds = set(map(type, values))
        for kind in filter(unabridged.is_table, kinds):
            raise BadResultError(
                f"column {frame.columns[place]!r} of what run() returned holds a {unabridged.name_of(kind)}, whose "
                "text leaves out rows; return its values as a list, or rows of their own"
            )
        if any(issubclass(kind, datetime) for kind in kinds):
            changed = frame.copy(deep=False) if changed is frame else changed
            changed.isetitem(place, moments.text_of_objects(values))
        found |= kinds
    printer.prepare(found)
    return changed


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


def is_arrow_table(result: Any) -> bool:
    """Whether it is a Table or a RecordBatch, without importing pyarrow, as is_data_frame() does."""
    pyarrow = sys.modules.get("pyarrow")
    kinds = tuple(getattr(pyarrow, name) for name in ("Table", "RecordBatch") if hasattr(pyarrow, name))
    return isinstance(result, kinds)


def as_frame(elements: Any) -> Any:
    """Make a DataFrame of a Table or a RecordBatch, whole numbers exactly; all else stays what it is."""
    if not is_arrow_table(elements):
        return elements
    return elements.to_pandas(integer_object_nulls=True, ignore_metadata=True)


def is_data_frame(result: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas: who returns one has imported it."""
    data_frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return data_frame is not None and isinstance(result, data_frame)
