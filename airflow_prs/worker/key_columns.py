"""Columns whose values stand in the paths of the files."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the name of a folder."""

STR_IS_A_TYPE = 3
"""From this pandas on a column of text has a type of its own, also where all of it is missing."""


class KeyColumns:
    """
    Adds the columns of keys to the rows of pieces.

    :param description: a regular expression for paths (``pattern``); the keys, each with its groups and, where it is a
        moment, the attributes that these stand for (``keys``); whether they are folders named ``key=value``
        (``are_folders``).
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self._pattern = re.compile(description["pattern"])
        self._keys: list[tuple[str, list[int], list[str]]] = description["keys"]
        self._are_folders: bool = description["are_folders"]

    def add(self, frame: Any, paths: list[str], lengths: list[int]) -> Any:
        """
        Add the columns behind the others.

        :param frame: the rows of all pieces, one after the other.
        :param paths: the file of each piece.
        :param lengths: the number of its rows.
        """
        matches = [self._pattern.search(path) for path in paths]
        for key, groups, attributes in self._keys:
            values = [None if match is None else self._value(match.group(*groups, 0), attributes) for match in matches]
            frame[key] = _column(values, lengths, is_text=not attributes)
        return frame

    def _value(self, texts: tuple[str, ...], attributes: list[str]) -> str | datetime | None:
        if attributes:
            given = {"month": 1, "day": 1, **{name: int(text) for name, text in zip(attributes, texts)}}  # noqa: B905
            return datetime(**given)  # type: ignore[arg-type]  # noqa: DTZ001 - a moment in a path names no time zone
        if not self._are_folders:
            return texts[0]
        return None if texts[0] == NULL else unquote(texts[0])


def _column(values: list[Any], lengths: list[int], *, is_text: bool) -> Any:
    import numpy as np
    import pandas as pd

    if not is_text:
        return np.array(values, "datetime64[us]").repeat(lengths)
    texts = np.array(values, object).repeat(lengths)
    return pd.Series(texts, dtype="str" if int(pd.__version__.split(".")[0]) >= STR_IS_A_TYPE else object)
