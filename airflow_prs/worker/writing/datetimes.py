"""
Datetimes and durations as text in one format.

The format that pandas chooses depends on the values that it writes together, and so on the mini-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def in_one_format(frame: Any, options: Mapping[str, Any]) -> Any:
    """
    Return a DataFrame with text in place of datetimes and durations.

    Datetimes are ``2026-01-31 00:00:00.000000``, with nine digits if there are nanoseconds, and with the offset if
    there is a time zone; durations are ``1 days 00:00:00``, with a fraction if there is one.

    :param options: arguments of to_csv; with a date_format datetimes stay as they are.
    """
    kinds = "m" if options.get("date_format") else "Mm"
    places = [place for place, dtype in enumerate(frame.dtypes) if _kind_of(dtype) in kinds]
    is_in_index = options.get("index", True) and any(_kind_of(level.dtype) in kinds for level in _levels(frame.index))
    if not places and not is_in_index:
        return frame
    frame = frame.copy(deep=False)
    for place in places:
        frame.isetitem(place, _texts(frame.iloc[:, place].array))
    if is_in_index:
        frame.index = _text_index(frame.index, kinds)
    return frame


def text_of_objects(values: Any) -> Any:
    """Return an array of objects with text in place of datetimes."""
    import numpy as np

    texts = np.empty(len(values), object)
    texts[:] = [_text(value) if isinstance(value, datetime) else value for value in values]
    return texts


def _kind_of(dtype: Any) -> str:
    categories = getattr(dtype, "categories", None)  # the kind of a categorical type is that of its categories
    return str(getattr(dtype if categories is None else categories.dtype, "kind", "O"))


def _levels(index: Any) -> list[Any]:
    return list(getattr(index, "levels", [index]))


def _text_index(index: Any, kinds: str) -> Any:
    import pandas as pd

    if isinstance(index, pd.MultiIndex):
        levels = [_text_index(level, kinds) for level in index.levels]
        return index.set_levels(levels, verify_integrity=False)
    return pd.Index(_texts(index.array), dtype=object, name=index.name) if _kind_of(index.dtype) in kinds else index


def _texts(values: Any) -> Any:
    """Return the text of each value, None for a missing one."""
    import numpy as np

    if hasattr(values.dtype, "categories"):
        values = values.astype(values.dtype.categories.dtype)
    missing = np.asarray(values.isna(), bool)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        texts = _of_numpy(values.to_numpy())
    else:
        texts = np.empty(len(values), object)
        texts[:] = [None if is_missing else _text(value) for value, is_missing in zip(values, missing)]  # noqa: B905
    texts[missing] = None
    return texts


def _of_numpy(values: Any) -> Any:
    import numpy as np

    texts = np.char.replace(np.datetime_as_string(values, unit="us", casting="unsafe"), "T", " ").astype(object)
    if np.datetime_data(values.dtype)[0] == "ns":
        has_more = (values.view("int64") % 1000 != 0) & ~np.isnat(values)
        if has_more.any():
            texts[has_more] = np.char.replace(np.datetime_as_string(values[has_more], unit="ns"), "T", " ")
    return texts


def _text(value: Any) -> Any:
    if not isinstance(value, datetime):
        return str(value)
    if value != value:  # noqa: PLR0124 - NaT is not equal to itself
        return None
    if getattr(value, "nanosecond", 0):
        return value.isoformat(" ", "nanoseconds")
    return value.isoformat(" ", "microseconds")
