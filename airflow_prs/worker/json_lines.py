"""JSON lines as DataFrames."""

from __future__ import annotations

import json
from typing import Any

PANDAS_WITH_TEXT = 3
"""From this pandas on text has a type of its own."""


class JsonTable:
    """
    Makes DataFrames of lines that hold an object each.

    :param options: encoding, columns, chosen (None: all), dtypes.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._encoding = options.get("encoding", "utf-8")
        self._columns = options.get("chosen") or options.get("columns") or []
        self._dtypes = options.get("dtypes") or {}

    def __call__(self, data: bytes) -> Any:
        """
        Read lines.

        :raises ValueError: if a line is no JSON, or no object.
        """
        import pandas as pd

        text = data.decode(self._encoding).removeprefix("\ufeff")
        records = [_object(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        is_old = int(pd.__version__.split(".")[0]) < PANDAS_WITH_TEXT
        columns = {}
        for name in self._columns:
            kind = self._dtypes.get(name)
            values = [record.get(name, float("nan")) for record in records]
            columns[name] = pd.Series(values, dtype=object if kind == "str" and is_old else kind)
        return pd.DataFrame(columns, index=range(len(records)))


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is no object in braces but {type(record).__name__}")  # noqa: TRY004
    return record
