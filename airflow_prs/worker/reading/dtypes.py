"""Types of columns: those for which pandas has no name, and those that it does not read from text by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

MISSING_OR_BOOL, WHOLE_OBJECTS = "bool_or_missing", "whole_objects"
"""What plan calls types for which pandas has no name: truth values with missing ones, and whole numbers of any size."""

_MOMENT = r"\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?{zone})?"
_ZONE = r"(?:Z|[+-]\d\d(?::?\d\d)?)?"


def are_exact_as_floats(lowest: float | None, highest: float | None) -> bool:
    """Whether floats hold all whole numbers between two; None: there are none."""
    return lowest is None or highest is None or (lowest >= -(2**53) and highest <= 2**53)


def text_type() -> Any:
    """Return the type of a column of text: one of its own, or objects where this pandas is to have none."""
    import pandas as pd

    return "str" if _is_extension(pd.api.types.pandas_dtype("str")) else object


def type_to_read(kind: str) -> Any:
    """
    Return the type to ask pandas for when it reads text; None: as pandas finds it.

    :param kind: as plan or the author calls it.
    :raises ValueError: if what pandas reads as this type would depend on the mini-batch.
    """
    if kind == MISSING_OR_BOOL:
        return None
    if _is_guessed(kind):
        raise ValueError(f"pandas guesses the format of {kind} anew in each mini-batch; allowed: datetime64[us]")
    return "str" if kind == WHOLE_OBJECTS or is_moment(kind) else kind


@lru_cache
def is_moment(kind: str) -> bool:
    """Whether a type is one of moments, with or without a time zone."""
    import numpy as np
    import pandas as pd

    if kind in {MISSING_OR_BOOL, WHOLE_OBJECTS}:
        return False
    dtype = pd.api.types.pandas_dtype(kind)
    return isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and dtype.kind == "M"


def _is_guessed(kind: str) -> bool:
    """Whether a type is one of Arrow's for days and moments."""
    return kind.endswith("[pyarrow]") and kind.startswith(("date", "time"))


def is_made_later(kind: str) -> bool:
    """Whether a column of a type has to be made after pandas has read it."""
    return kind in {MISSING_OR_BOOL, WHOLE_OBJECTS} or is_moment(kind)


def as_type(column: Any, kind: str) -> Any:
    """
    Give a column a type.

    :param column: text, or missing values alone.
    :raises ValueError: if a value does not fit.
    """
    if is_moment(kind):
        return _moments(column, kind)
    with naming(column.name, kind):
        require_truth(column, kind)
        return _made(column, kind)


@contextmanager
def naming(column: Any, kind: Any) -> Iterator[None]:
    """Let what pandas raises name the column, and the type that it was to have."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the column {column!r} has values that the type {kind} cannot hold: {error}") from error


def require_truth(values: Iterable[Any], kind: str) -> None:
    """
    Refuse values that are no truth values, where pandas would make True of what is missing, and of any text.

    :raises ValueError: if there is one, and the type is numpy's bool.
    """
    import numpy as np
    import pandas as pd

    if kind in {MISSING_OR_BOOL, WHOLE_OBJECTS} or pd.api.types.pandas_dtype(kind) != np.dtype(bool):
        return
    for value in values:
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError(
                f"{value!r} is no truth value; allowed: True and False, or the type 'boolean' if some lack"
            )


def _made(column: Any, kind: str) -> Any:
    if kind == MISSING_OR_BOOL:
        return column.astype(object)
    if kind == WHOLE_OBJECTS:
        return column.astype(object).map(int, na_action="ignore").astype(object)
    # Without a type of its own, text that is missing would become the word nan.
    return column.astype(text_type() if kind == "str" else kind)


def _moments(column: Any, kind: str) -> Any:
    """Read moments, in one format alone: which one pandas guesses would depend on the mini-batch."""
    import pandas as pd

    present = column.dropna().astype(object)
    has_zone = isinstance(pd.api.types.pandas_dtype(kind), pd.DatetimeTZDtype)
    fits = present.astype(str).str.fullmatch(_MOMENT.replace("{zone}", _ZONE if has_zone else ""))
    if not fits.all():
        example = "2026-01-31T12:00:00+01:00" if has_zone else "2026-01-31T12:00:00"
        raise _misfit(present[~fits], kind, f"2026-01-31, {example}")
    with naming(column.name, kind):
        if has_zone:
            return column.astype(object).astype(kind)
        found = pd.to_datetime(column.astype(object), format="ISO8601")
        made = found.astype(kind)
    are_finer = (made != found) & found.notna()
    if are_finer.any():
        raise _misfit(column[are_finer], kind, "a type with finer units")
    return made


def _misfit(column: Any, kind: str, allowed: str) -> ValueError:
    return ValueError(
        f"{column.iloc[0]!r} in the column {column.name!r} is not read as {kind}; allowed: {allowed}, or the type "
        "'str' where run() reads it"
    )


def _is_extension(dtype: Any) -> bool:
    import numpy as np

    return not isinstance(dtype, np.dtype)
