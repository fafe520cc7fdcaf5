"""DataFrames whose columns must be the same for all mini-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Relative, as this package has another name where it is at work.
from . import rows  # noqa: TID252


def frame_of(elements: Any, wanted_by: str) -> Any:
    """
    Give elements as a DataFrame.

    :param elements: a DataFrame, a Table or RecordBatch of pyarrow, or dicts of column to value.
    :param wanted_by: what the error says needs it.
    :raises BadResultError: if they are neither.
    """
    elements = rows.as_frame(elements)
    if rows.is_data_frame(elements):
        return elements
    import pandas as pd

    return pd.DataFrame({name: _exact(values) for name, values in records_of(elements, wanted_by).items()})


def _exact(values: list[Any]) -> Any:
    """Give values as a column; as objects where pandas would round whole numbers."""
    import pandas as pd

    column = pd.Series(values)
    pairs = zip(values, column)  # noqa: B905 - Python 3.9 has no strict
    is_rounded = column.dtype.kind == "f" and any(isinstance(value, int) and value != made for value, made in pairs)
    return pd.Series(values, dtype=object) if is_rounded else column


def records_of(elements: Any, wanted_by: str) -> dict[str, list[Any]]:
    """
    Turn dicts of column to value into columns; what one lacks is None.

    :raises BadResultError: if one is no dict.
    """
    records = list(elements)
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise rows.BadResultError(
                f"element {number} of what run() returned is of type {type(record).__name__}; for {wanted_by} run() "
                "must return a pandas DataFrame, or a list with a dict of column to value for each item"
            )
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def say_what_is_too_large(frame: Any) -> str:
    """Name a whole number for which Arrow finds no type by itself, and its column, as the end of an error."""
    for name, column in ((name, frame.iloc[:, place]) for place, name in enumerate(frame.columns)):
        for value in column if column.dtype == object else ():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return f"; column {name!r} holds {value}, which needs a type such as 'UInt64' or 'str'"
    return ""


def names_of(frame: Any) -> list[str]:
    """
    Name the columns of a DataFrame or table.

    :raises BadResultError: if two have the same name.
    """
    names = [str(name) for name in (frame.schema.names if rows.is_arrow_table(frame) else frame.columns)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise rows.BadResultError(f"run() returned a DataFrame with two columns {twice!r}; each needs its own name")
    return names


def positions_of(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """
    Find the known columns among those of a mini-batch, in whatever order they stand.

    :raises BadResultError: if they are not the same.
    """
    missing = [name for name in known if name not in names]
    others = [name for name in names if name not in known]
    if missing or others:
        without = f"without the column {missing[0]!r}" if missing else ""
        with_ = f"with the column {others[0]!r}" if others else ""
        raise rows.BadResultError(
            f"run() returned rows {' and '.join(filter(None, (without, with_)))}; all mini-batches must have the "
            f"columns of the first one that returned rows: {', '.join(map(repr, known))}"
        )
    place = {name: position for position, name in enumerate(names)}
    return [place[name] for name in known]
