"""Rows of the result in the text format of Azure ML, and the file that takes rows of any format."""

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

# Relative, because this package has another name in a worker process.
from . import carriage_returns, datetimes, unabridged  # noqa: TID252

REFUSED = (str, bytes, bytearray, memoryview, Mapping, Number)
"""Types that do not have an element for each item, although some are iterable."""

ACCEPTED = (
    "it must return a pandas DataFrame, or a list, tuple or other iterable with an element for each item that succeeded"
)

NOTHING = "None (is a return statement missing?)"

WRITE_SIZE = 1024 * 1024
"""In characters or bytes: at most this much text is in memory at a time, however much run() returned."""

CHUNK = 100
"""Number of elements that are converted to text together."""

SETTINGS = "parallel_run_step.settings.json"
"""The file, known from Azure ML, that holds arguments of to_csv."""

TEXT = {"sep": " ", "header": False, "index": False}
"""The arguments with which Azure ML calls to_csv."""

WORTH_ARROW_CELLS = 500_000
"""From this number of cells on pyarrow saves more time than its import takes."""

ENCODING: tuple[str, str] = ("utf-8", "surrogateescape")
"""File names may contain bytes that are not UTF-8; they are written unchanged."""


class BadResultError(Exception):
    """run() returned something that does not have an element for each item."""


def elements_of(result: Any) -> Any:
    """
    Return what run() returned as something with a length; a generator becomes a list.

    :raises BadResultError: if it does not have elements.
    """
    if type(result) in (list, tuple) or is_data_frame(result) or is_arrow_table(result):
        return result
    if hasattr(type(result), "__dataframe__"):
        name = unabridged.name_of(type(result))
        raise BadResultError(f"run() returned a {name}; return the result of its to_pandas() or to_arrow()")
    if not _has_elements(result):
        what = f"{reprlib.repr(result)}, which is of type {type(result).__name__}"
        raise BadResultError(f"run() returned {NOTHING if result is None else what}; {ACCEPTED}")
    return result if hasattr(result, "__len__") else list(result)


def write_elements(elements: Any, write: Callable[[bytes], Any]) -> None:
    """
    Write elements as lines, as Azure ML does.

    :param elements: what elements_of() returned.
    :param write: takes the next bytes.
    :raises BadResultError: if the number of elements differs from their length.
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
    """Return elements that run no user code while they are iterated, as it would see changed print options."""
    is_known = isinstance(elements, (list, tuple)) or hasattr(elements, "dtype")
    return elements if is_known else list(elements)


def _write_text(text: str, write: Callable[[bytes], Any]) -> None:
    for start in range(0, len(text), WRITE_SIZE):
        write(text[start : start + WRITE_SIZE].encode(*ENCODING))


def _text_of(elements: list[Any], first: int, printer: unabridged.Printer) -> str:
    """
    Return the text of all elements, each on one line; only text and paths may have line breaks.

    :param first: number of the first element.
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
    The rows file of this process, which is its only writer.

    :param fd: the file, open for appending.
    :param writer: writes elements as bytes, as write_elements() does.
    """

    def __init__(self, fd: int, writer: Callable[[Any, Callable[[bytes], Any]], None] = write_elements) -> None:
        self._fd = fd
        self._writer = writer
        self._end = os.fstat(fd).st_size
        self._crc = 0

    def append(self, elements: Any) -> tuple[int, int, int]:
        """Append elements as rows, all or none, and return offset, length and CRC-32 of their bytes."""
        offset = self._end
        self._crc = 0
        try:
            self._writer(elements, self._write)
        except BaseException:
            self.take_back(offset)
            raise
        return offset, self._end - offset, self._crc

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._end += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def take_back(self, offset: int) -> None:
        """Remove the rows from a position on."""
        try:
            os.ftruncate(self._fd, offset)
        finally:
            self._end = os.fstat(self._fd).st_size


def write_frame(frame: Any, write: Callable[[bytes], Any], options: Mapping[str, Any]) -> None:
    """
    Write what pandas' to_csv writes, in small parts; with Arrow if it writes the same bytes and is faster.

    There are two differences to pandas: datetimes have one format, and a carriage return is always quoted.

    :param options: arguments of to_csv.
    """
    frame = datetimes.in_one_format(frame, options)
    if options == {**TEXT, "sep": options.get("sep", ",")} and _is_worth_arrow(frame):
        from . import rows_arrow  # noqa: TID252 - it imports pyarrow

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
    """Whether pyarrow is imported already, or is installed and worth its import."""
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
            frame = _prepare_objects(frame, printer)
            needs_quotes = carriage_returns.may_be_in(frame, with_index=options.get("index", True))
            kind = _QuotingText if needs_quotes else io.TextIOWrapper
            text = kind(io.BufferedWriter(raw, WRITE_SIZE), *ENCODING, newline="")
            if needs_quotes:
                options = {**options, "lineterminator": (options.get("lineterminator") or "\n") + "\r\n"}
            frame.to_csv(text, **options)
        text.flush()
    finally:
        raw.is_over = True  # after an error, closing the buffers must not write what is left in them


class _QuotingText(io.TextIOWrapper):
    """
    Takes the rows that csv writes, and removes two extra characters, CR LF, from the end of each.

    Some versions of Python quote a carriage return only if the line terminator contains one, so it does.
    """

    def write(self, row: str) -> int:
        """Write a row without its last two characters."""
        return super().write(row[:-2])


def _prepare_objects(frame: Any, printer: unabridged.Printer) -> Any:
    """
    Prepare the printer for the objects in a DataFrame, and return the frame with text in place of datetimes among them.

    :raises BadResultError: if one is a table, whose text would be abridged.
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
            changed.isetitem(place, datetimes.text_of_objects(values))
        found |= kinds
    printer.prepare(found)
    return changed


class Raw(io.RawIOBase):
    """
    A raw stream that passes bytes to a function.

    :ivar is_over: whether it ignores bytes from now on.
    """

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self.is_over = False

    def writable(self) -> bool:
        """Return True; io asks."""
        return True

    def write(self, data: Any) -> int:
        """Pass bytes to the function, unless it is over."""
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
    """Whether a result is a Table or a RecordBatch; pyarrow is not imported, as whoever made one has imported it."""
    pyarrow = sys.modules.get("pyarrow")
    kinds = tuple(getattr(pyarrow, name) for name in ("Table", "RecordBatch") if hasattr(pyarrow, name))
    return isinstance(result, kinds)


def as_frame(elements: Any) -> Any:
    """Return a DataFrame for a Table or a RecordBatch, with exact whole numbers; return all else unchanged."""
    if not is_arrow_table(elements):
        return elements
    return elements.to_pandas(integer_object_nulls=True, ignore_metadata=True)


def is_data_frame(result: Any) -> bool:
    """Whether a result is a DataFrame; pandas is not imported, as whoever made one has imported it."""
    data_frame = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return data_frame is not None and isinstance(result, data_frame)
