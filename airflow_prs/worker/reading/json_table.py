"""JSON lines as DataFrames."""

from __future__ import annotations

import codecs
import json
from typing import Any

# Relative, because this package has another name in a worker process.
from . import json_arrow  # noqa: TID252
from .dtypes import as_type, is_moment, naming, require_truth, text_type  # noqa: TID252
from .lines import LineError, decode  # noqa: TID252


class JsonTable:
    """
    Makes DataFrames from lines that hold an object each.

    :param options: ``encoding``; ``columns``; ``chosen`` (columns that run() gets; None: all); ``dtypes``.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._encoding = options.get("encoding", "utf-8")
        self._every = options.get("columns") or []
        self._columns = options.get("chosen") or self._every
        self._dtypes = options.get("dtypes") or {}

    def __call__(self, data: bytes, *, is_whole: bool) -> Any:
        """
        Return a DataFrame with a row for each line; lines end with LF.

        :param is_whole: whether the data is the entire file, which may begin with a byte order mark.
        :raises LineError: if a line is not a JSON object.
        """
        import pandas as pd

        if len(data) >= json_arrow.SHORTEST and codecs.lookup(self._encoding).name == "utf-8":
            table = json_arrow.read_table(data, self._every, self._columns, self._dtypes)
            if table is not None:
                return table
        lines = decode(data, self._encoding, is_whole=is_whole).split("\n")
        records = [_numbered(number, line) for number, line in enumerate(lines, 1) if not is_blank(line)]
        columns = {name: self._column(name, [record.get(name, _NAN) for record in records]) for name in self._columns}
        return pd.DataFrame(columns, index=range(len(records)))

    def _column(self, name: str, values: list[Any]) -> Any:
        import pandas as pd

        kind = self._dtypes.get(name)
        if kind is None:
            return pd.Series(values)
        if is_moment(kind):
            values = [None if value is _NAN else value for value in values]  # NaN would make floats of the numbers
            if any(isinstance(value, str) for value in values):
                return as_type(pd.Series(values, dtype=object, name=name), kind)
        with naming(name, kind):
            require_truth(values, kind)
            return pd.Series(values, dtype=text_type() if kind == "str" else kind)


_NAN = float("nan")
"""The value of a column that a line does not have."""


def is_blank(line: str) -> bool:
    """Whether a line is only white space and so not a record; as in pandas.read_json any Unicode white space counts."""
    return not line or line.isspace()


def read_object(line: str) -> dict[str, Any]:
    """
    Return the JSON object of a line; white space around it is ignored.

    :raises ValueError: if the line is not a JSON object; the message is the rest of a sentence about the line.
    """
    try:
        record = json.loads(line.strip())
        if "\\ud" in line or "\\uD" in line:  # may be half a surrogate pair, which UTF-8 cannot hold
            json.dumps(record, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        column = error.colno + len(line) - len(line.lstrip())
        raise ValueError(f"is not valid JSON: {error.msg} at character {column}") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"holds {half}, which is half of a surrogate pair") from None
    except ValueError as error:
        raise ValueError(f"is not JSON that Python can read: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply to be read") from None
    if not isinstance(record, dict):
        raise ValueError(f"is not an object in braces but of type {type(record).__name__}")  # noqa: TRY004
    return record


def _numbered(number: int, line: str) -> dict[str, Any]:
    try:
        return read_object(line)
    except ValueError as error:
        raise LineError(number, str(error)) from None
