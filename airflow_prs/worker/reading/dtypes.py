"""Types of columns for which pandas has no name, or which it does not read from text by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

MISSING_OR_BOOL, WHOLE_OBJECTS = "bool_or_missing", "whole_objects"
"""Types that plan uses and pandas has no name for: bool with missing values, and whole numbers of any size."""

_MOMENT = r"\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?{zone})?"
_ZONE = r"(?:Z|[+-]\d\d(?::?\d\d)?)?"


def are_exact_as_floats(lowest: float | None, highest: float | None) -> bool:
    """Whether floats hold all whole numbers between two; None: there are none."""
    return lowest is None or highest is None or (lowest >= -(2**53) and highest <= 2**53)


def text_type() -> Any:
    """Return the type of a column of text: str, or object if this version or option of pandas has no type for text."""
    import pandas as pd

    return "str" if _is_extension(pd.api.types.pandas_dtype("str")) else object


def type_to_read(kind: str) -> Any:
    """
    Return the type to pass to pandas when it reads text; None: pandas infers it.

    :param kind: the type as plan or the author names it.
    :raises ValueError: if the values that pandas reads as this type would depend on the mini-batch.
    """
    if kind == MISSING_OR_BOOL:
        return None
    if _is_guessed(kind):
        raise ValueError(f"pandas guesses the format of {kind} anew in each mini-batch; allowed: datetime64[us]")
    return "str" if kind == WHOLE_OBJECTS or is_moment(kind) else kind


@lru_cache
def is_moment(kind: str) -> bool:
    """Whether a type is one of datetimes, with or without a time zone."""
    import numpy as np
    import pandas as pd

    if kind in {MISSING_OR_BOOL, WHOLE_OBJECTS}:
        return False
    dtype = pd.api.types.pandas_dtype(kind)
    return isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and dtype.kind == "M"


def _is_guessed(kind: str) -> bool:
    """Whether a type is an Arrow type for dates and times."""
    return kind.endswith("[pyarrow]") and kind.startswith(("date", "time"))


def is_made_later(kind: str) -> bool:
    """Whether a column has to be cast to a type after pandas has read it."""
    return kind in {MISSING_OR_BOOL, WHOLE_OBJECTS} or is_moment(kind)


def as_type(column: Any, kind: str) -> Any:
    """
    Return a column cast to a type.

    :param column: text, or only missing values.
    :raises ValueError: if a value does not fit.
    """
    if is_moment(kind):
        return _moments(column, kind)
    with naming(column.name, kind):
        require_truth(column, kind)
        return _made(column, kind)


@contextmanager
def naming(column: Any, kind: Any) -> Iterator[None]:
    """Raise exceptions of pandas again as errors that name the column and the type."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the column {column!r} has values that the type {kind} cannot hold: {error}") from error


def require_truth(values: Iterable[Any], kind: str) -> None:
    """
    Check values for numpy's bool, to which pandas would cast missing values and any text as True.

    :raises ValueError: if the type is numpy's bool and a value is not True, False, 1 or 0.
    """
    import numpy as np
    import pandas as pd

    if kind in {MISSING_OR_BOOL, WHOLE_OBJECTS} or pd.api.types.pandas_dtype(kind) != np.dtype(bool):
        return
    for value in values:
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError(
                f"{value!r} is not a bool; allowed: True and False, or the type 'boolean' if some are missing"
            )


def _made(column: Any, kind: str) -> Any:
    if kind == MISSING_OR_BOOL:
        return column.astype(object)
    if kind == WHOLE_OBJECTS:
        return column.astype(object).map(int, na_action="ignore").astype(object)
    # If pandas has no type for text, str would turn missing values into the text "nan".
    return column.astype(text_type() if kind == "str" else kind)


def _moments(column: Any, kind: str) -> Any:
    """Return text as datetimes, in ISO 8601 only: a format that pandas guesses would depend on the mini-batch."""
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
