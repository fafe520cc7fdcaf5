"""Rows as JSON lines: an object for each row of a DataFrame, or the JSON value of each element."""

# ruff: noqa: B905 - zip() of Python 3.9 has no ``strict``

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

# Relative, as this package has another name where it is at work.
from . import columns, rows  # noqa: TID252

CHUNK_ROWS = 10_000
MISSING = ("NAType", "NaTType")


def write_json_lines(elements: Any, write: Callable[[bytes], Any]) -> None:
    """
    Write elements as JSON, each on a line.

    What is missing is null, and so is NaN, however deep in a value; moments are in ISO 8601, floats are exact.

    :raises BadResultError: if JSON cannot hold one of them.
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
    """Give a column as Python's own objects, None for what is missing."""
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
                f"element {number} of what run() returned, {reprlib.repr(element)}, is no JSON value: {error}"
            ) from None


def _wrong_cell(row: dict[str, Any], number: int) -> rows.BadResultError:
    for name, value in row.items():
        try:
            _to_json(value)
        except (TypeError, ValueError, RecursionError) as error:  # noqa: PERF203 - a single row
            return rows.BadResultError(
                f"run() returned a DataFrame whose column {name!r} holds {reprlib.repr(value)} in row {number}, "
                f"which is no JSON value: {error}"
            )
    return rows.BadResultError(f"row {number} of the DataFrame that run() returned cannot be written as JSON")


def _plain(value: Any) -> Any:
    """Give what JSON does not know as something that it knows."""
    if type(value).__name__ in MISSING:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy, or a Series
        return _texts_of_moments(value) if value.dtype.kind == "M" else value.tolist()
    raise TypeError(f"JSON has nothing for the type {type(value).__name__}")


def _texts_of_moments(value: Any) -> Any:
    import numpy as np

    texts: Any = np.where(value != value, None, value.astype(str))  # noqa: PLR0124 - NaT alone is not itself
    return texts.tolist()


_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _to_json(value: Any) -> str:
    try:
        return _encode_json(value)
    except ValueError:  # there may be NaN in it: to look for that each time would take longer
        return _encode_json(_without_nan(value))


def _without_nan(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return None if value != value else value  # noqa: PLR0124 - NaN alone is not itself
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
    except UnicodeEncodeError:  # file names that are no text
        escaped = (f"\\u{ord(character):04x}" if "\ud800" <= character <= "\udfff" else character for character in text)
        return "".join(escaped).encode()
