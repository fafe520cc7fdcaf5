"""The columns of what run() returned, which must be the same for all mini-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Relative, because this package has another name in a worker process.
from . import rows  # noqa: TID252


def frame_of(elements: Any, wanted_by: str) -> Any:
    """
    Return elements as a DataFrame.

    :param elements: a DataFrame, a Table or RecordBatch of pyarrow, or dicts of column to value.
    :param wanted_by: the option that needs a DataFrame, for the error.
    :raises BadResultError: if they are none of these.
    """
    elements = rows.as_frame(elements)
    if rows.is_data_frame(elements):
        return elements
    import pandas as pd

    return pd.DataFrame({name: _exact(values) for name, values in records_of(elements, wanted_by).items()})


def _exact(values: list[Any]) -> Any:
    """Return values as a column, of objects if pandas would round whole numbers."""
    import pandas as pd

    column = pd.Series(values)
    pairs = zip(values, column)  # noqa: B905 - Python 3.9 has no strict
    is_rounded = column.dtype.kind == "f" and any(isinstance(value, int) and value != made for value, made in pairs)
    return pd.Series(values, dtype=object) if is_rounded else column


def records_of(elements: Any, wanted_by: str) -> dict[str, list[Any]]:
    """
    Return columns made from dicts of column to value; a missing value is None.

    :raises BadResultError: if an element is not a dict.
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


def describe_too_large(frame: Any) -> str:
    """Return the end of an error that names a whole number too large for int64, and its column; '' if there is none."""
    for name, column in ((name, frame.iloc[:, place]) for place, name in enumerate(frame.columns)):
        for value in column if column.dtype == object else ():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return f"; column {name!r} holds {value}, which needs a type such as 'UInt64' or 'str'"
    return ""


def names_of(frame: Any) -> list[str]:
    """
    Return the names of the columns of a DataFrame or table.

    :raises BadResultError: if two columns have the same name.
    """
    names = [str(name) for name in (frame.schema.names if rows.is_arrow_table(frame) else frame.columns)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise rows.BadResultError(f"run() returned a DataFrame with two columns {twice!r}; each needs its own name")
    return names


def positions_of(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """
    Return the positions of the known columns among those of a mini-batch, whose order may differ.

    :raises BadResultError: if the columns are not the same.
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
