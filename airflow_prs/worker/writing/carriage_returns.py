"""Whether a DataFrame may hold a carriage return: only then is there something to do about its quotes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Relative, as this package has another name where it is at work.
from . import unabridged  # noqa: TID252

WITHOUT = frozenset({"Decimal", "NAType", "NaTType", "Timestamp", "date", "datetime", "time"})
"""Names of further types whose text has none."""


def may_be_in(frame: Any, *, with_index: bool) -> bool:
    """Look at all text in a DataFrame, the names of its columns among it."""
    if _may_be_among(frame.columns) or (with_index and _may_be_among(frame.index)):
        return True
    return any(_may_be_in_column(frame.iloc[:, place]) for place in range(len(frame.columns)))


def _may_be_in_column(column: Any) -> bool:
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        return _may_be_among(dtype.categories)
    if type(dtype).__name__ == "StringDtype":
        return bool(column.str.contains("\r", regex=False).any())
    return getattr(dtype, "kind", "O") in "OU" and _may_be_among(column.to_numpy(dtype=object))


def _may_be_among(values: Iterable[Any]) -> bool:
    kinds = set(map(type, values))
    if any(kind not in unabridged.PLAIN and kind.__name__ not in WITHOUT for kind in kinds):
        return True
    return str in kinds and any("\r" in value for value in values if type(value) is str)
