"""The check for carriage returns in a DataFrame, which need quotes that not every version of Python writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Relative, because this package has another name in a worker process.
from . import unabridged  # noqa: TID252

WITHOUT = frozenset({"Decimal", "NAType", "NaTType", "Timestamp", "date", "datetime", "time"})
"""Names of further types whose text has no carriage return."""


def may_be_in(frame: Any, *, with_index: bool) -> bool:
    """Whether any text in a DataFrame, or a name of a column, may contain a carriage return."""
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
