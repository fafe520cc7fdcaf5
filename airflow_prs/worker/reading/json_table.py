"""JSON lines as DataFrames."""

from __future__ import annotations

import json
from typing import Any

# Relative, as this package has another name where it is at work.
from .dtypes import as_type, is_moment, naming, require_truth, text_type  # noqa: TID252
from .lines import LineError  # noqa: TID252


class JsonTable:
    """
    Makes DataFrames of lines that hold an object each.

    :param options: encoding, columns, chosen (None: all), dtypes.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._encoding = options.get("encoding", "utf-8")
        self._columns = options.get("chosen") or options.get("columns") or []
        self._dtypes = options.get("dtypes") or {}

    def __call__(self, data: bytes, *, is_whole: bool) -> Any:
        """
        Read lines, each of which ends with LF.

        :param is_whole: whether it is the entire file, which may begin with a byte order mark.
        :raises LineError: if a line is no JSON, or no object.
        """
        import pandas as pd

        text = self._decode(data)
        lines = (text.removeprefix("\ufeff") if is_whole else text).split("\n")
        records = [_numbered(number, line) for number, line in enumerate(lines, 1) if not is_blank(line)]
        columns = {name: self._column(name, [record.get(name, _NAN) for record in records]) for name in self._columns}
        return pd.DataFrame(columns, index=range(len(records)))

    def _column(self, name: str, values: list[Any]) -> Any:
        import pandas as pd

        kind = self._dtypes.get(name)
        if kind is None:
            return pd.Series(values)
        if is_moment(kind):
            values = [None if value is _NAN else value for value in values]  # beside NaN numbers would be rounded
            if any(isinstance(value, str) for value in values):
                return as_type(pd.Series(values, dtype=object, name=name), kind)
        with naming(name, kind):
            require_truth(values, kind)
            return pd.Series(values, dtype=text_type() if kind == "str" else kind)

    def _decode(self, data: bytes) -> str:
        try:
            return data.decode(self._encoding)
        except UnicodeDecodeError as error:
            number = data[: error.start].decode(self._encoding, "ignore").count("\n") + 1
            raise LineError(number, f"is not in the encoding {self._encoding!r}: {error.reason}") from None


_NAN = float("nan")
"""Stands where a line has no value."""


def is_blank(line: str) -> bool:
    """Whether a line is nothing but white space, and so no record; pandas.read_json takes all of Unicode's."""
    return not line or line.isspace()


def read_object(line: str) -> dict[str, Any]:
    """
    Read a line, around which there may be white space.

    :raises ValueError: if it is no JSON, or no object; what is wrong, without its subject.
    """
    try:
        record = json.loads(line.strip())
        if "\\ud" in line or "\\uD" in line:  # half a character, perhaps, which no text can hold
            json.dumps(record, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        column = error.colno + len(line) - len(line.lstrip())
        raise ValueError(f"is no JSON: {error.msg} at character {column}") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"holds {half}, which is one half of a character without the other") from None
    except ValueError as error:
        raise ValueError(f"is no JSON that Python reads: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply to be read") from None
    if not isinstance(record, dict):
        raise ValueError(f"is no object in braces but {type(record).__name__}")  # noqa: TRY004
    return record


def _numbered(number: int, line: str) -> dict[str, Any]:
    try:
        return read_object(line)
    except ValueError as error:
        raise LineError(number, str(error)) from None
