"""Columns whose values come from the paths of the files."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

from ..values import MAKERS  # noqa: TID252 - this package has another name in a worker process
from .dtypes import text_type  # noqa: TID252

NULL = "__HIVE_DEFAULT_PARTITION__"
"""The folder name that means null."""


class KeyColumns:
    """
    Adds the columns of keys to the rows of pieces.

    :param description: ``pattern``, a regular expression for paths; ``keys``, each with its groups in the pattern and,
        for a datetime, the attribute that each group holds; ``are_folders``, whether keys are folders named
        ``key=value``; ``types``, kind and type of the keys that are not text (may be missing); ``order``, the names of
        all columns in their order (missing: keys follow the other columns).
    :ivar order: the order of the columns; None: keys follow the other columns.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self._pattern = re.compile(description["pattern"])
        self._keys: list[tuple[str, list[int], list[str]]] = description["keys"]
        self._are_folders: bool = description["are_folders"]
        self._types: dict[str, list[str]] = description.get("types", {})
        self.order: list[str] | None = description.get("order")

    def add(self, frame: Any, paths: list[str], lengths: list[int]) -> Any:
        """
        Return the rows with the columns of the keys.

        :param frame: the rows of all pieces in order; it is changed.
        :param paths: the file of each piece.
        :param lengths: the number of rows of each piece.
        """
        matches = [self._pattern.search(path) for path in paths]
        for key, groups, attributes in self._keys:
            kind, dtype = self._types.get(key, ["moment", "datetime64[us]"] if attributes else ["text", "str"])
            read = _READ[kind]
            values = [
                None if match is None else self._value(match.group(*groups, 0), attributes, read) for match in matches
            ]
            frame[key] = _text_column(values, lengths) if kind == "text" else _column(values, lengths, dtype)
        if self.order is None:
            return frame
        names = list(map(str, frame.columns))  # a file that pandas wrote may have numbers as names
        return frame.iloc[:, [names.index(name) for name in self.order]]

    def _value(self, texts: tuple[str, ...], attributes: list[str], read: Callable[[str], Any]) -> Any:
        if attributes:
            given = {"month": 1, "day": 1, **{name: int(text) for name, text in zip(attributes, texts)}}  # noqa: B905
            return datetime(**given)  # type: ignore[arg-type]  # noqa: DTZ001 - a path names no time zone
        if not self._are_folders:
            return texts[0]
        return None if texts[0] == NULL else read(unquote(texts[0]))


_NULLABLE = frozenset({"Int64", "UInt64"})
"""Types for whole numbers, some of them missing, that floats would round."""

_READ: dict[str, Callable[[str], Any]] = {
    "text": str,
    "whole": int,
    "float": float,
    "bool": "true".__eq__,
    **MAKERS,
}
"""Kind to the function that makes a value from its text."""


def _column(values: list[Any], lengths: list[int], dtype: str) -> Any:
    import numpy as np
    import pandas as pd

    if dtype in _NULLABLE:
        return pd.Series(values, dtype=dtype).array.repeat(lengths)
    if not dtype.startswith("datetime64"):
        return np.array(values, dtype).repeat(lengths)
    zone = dtype.partition(", ")[2].rstrip("]")
    if not zone:
        return np.array(values, "datetime64[us]").astype(dtype).repeat(lengths)
    in_utc = [None if value is None else value.astimezone(timezone.utc).replace(tzinfo=None) for value in values]
    datetimes = np.array(in_utc, "datetime64[us]").astype(dtype.partition(",")[0] + "]").repeat(lengths)
    return pd.DatetimeIndex(datetimes).tz_localize("UTC").tz_convert(zone)


def _text_column(values: list[Any], lengths: list[int]) -> Any:
    import numpy as np
    import pandas as pd

    texts = np.array(values, object).repeat(lengths)
    return pd.Series(texts, dtype=text_type()).array  # pandas would align a Series with the index of the rows
