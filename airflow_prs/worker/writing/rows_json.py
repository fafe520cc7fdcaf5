"""Rows as JSON lines: an object for each row of a DataFrame, or the JSON value of each element."""

# ruff: noqa: B905 - zip() of Python 3.9 has no ``strict``

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

# Relative, because this package has another name in a worker process.
from . import columns, rows  # noqa: TID252

CHUNK_ROWS = 10_000
MISSING = ("NAType", "NaTType")


def write_json_lines(elements: Any, write: Callable[[bytes], Any]) -> None:
    """
    Write elements as JSON, each on a line.

    Missing values and NaN are null, also inside nested values; datetimes are in ISO 8601, floats are exact.

    :raises BadResultError: if JSON cannot hold an element.
    """
    lines: list[str] = []
    size = 0
    elements = rows.as_frame(elements)
    for line in _frame_lines(elements) if rows.is_data_frame(elements) else _element_lines(elements):
        lines.append(line)
        size += len(line)
        if size > rows.WRITE_SIZE:
            write(_encode(lines))
            lines, size = [], 0
    if lines:
        write(_encode(lines))


def _frame_lines(frame: Any) -> Iterator[str]:
    names = columns.names_of(frame)
    for start in range(0, len(frame), CHUNK_ROWS):
        chunk = frame.iloc[start : start + CHUNK_ROWS]
        if not names:
            yield from ["{}"] * len(chunk)
        for number, values in enumerate(zip(*[_values(chunk.iloc[:, place]) for place in range(len(names))])):
            row = dict(zip(names, values))
            try:
                yield _to_json(row)
            except (TypeError, ValueError, RecursionError):
                raise _wrong_cell(row, start + number) from None


def _values(column: Any) -> list[Any]:
    """Return a column as Python objects, None for missing values."""
    values: list[Any] = column.tolist()
    missing = column.isna()
    if not missing.any():
        return values
    return [None if is_missing else value for value, is_missing in zip(values, missing.tolist())]


def _element_lines(elements: Any) -> Iterator[str]:
    for number, element in enumerate(elements):
        try:
            yield _to_json(element)
        except (TypeError, ValueError, RecursionError) as error:  # noqa: PERF203 - it is raised once at most
            raise rows.BadResultError(
                f"element {number} of what run() returned, {reprlib.repr(element)}, is not a JSON value: {error}"
            ) from None


def _wrong_cell(row: dict[str, Any], number: int) -> rows.BadResultError:
    for name, value in row.items():
        try:
            _to_json(value)
        except (TypeError, ValueError, RecursionError) as error:  # noqa: PERF203 - a single row
            return rows.BadResultError(
                f"run() returned a DataFrame whose column {name!r} holds {reprlib.repr(value)} in row {number}, "
                f"which is not a JSON value: {error}"
            )
    return rows.BadResultError(f"row {number} of the DataFrame that run() returned cannot be written as JSON")


def _plain(value: Any) -> Any:
    """
    Return a value that json cannot encode as one that it can.

    :raises TypeError: if there is none.
    """
    if type(value).__name__ in MISSING:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy, or a Series
        return _texts_of_datetimes(value) if value.dtype.kind == "M" else value.tolist()
    raise TypeError(f"JSON has no value for the type {type(value).__name__}")


def _texts_of_datetimes(value: Any) -> Any:
    import numpy as np

    texts: Any = np.where(value != value, None, value.astype(str))  # noqa: PLR0124 - NaT is not equal to itself
    return texts.tolist()


_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _to_json(value: Any) -> str:
    try:
        return _encode_json(value)
    except ValueError:  # it may contain NaN; checking each value first would take longer
        return _encode_json(_without_nan(value))


def _without_nan(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return None if value != value else value  # noqa: PLR0124 - NaN is not equal to itself
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return _without_nan(_plain(value))


def _encode(lines: list[str]) -> bytes:
    lines.append("")
    text = "\n".join(lines)
    try:
        return text.encode()
    except UnicodeEncodeError:  # file names with bytes that are not UTF-8
        escaped = (f"\\u{ord(character):04x}" if "\ud800" <= character <= "\udfff" else character for character in text)
        return "".join(escaped).encode()
