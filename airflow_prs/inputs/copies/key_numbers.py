"""Number the combinations of key values in the order of their first appearance, and write key values as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import InputError
from airflow_prs.inputs.columnar.column_facts import ColumnFacts
from airflow_prs.inputs.columnar.frame_types import types_with_nulls

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ALLOWED = "text, numbers, booleans, dates and datetimes"


class KeyNumbers:
    """
    Numbers the combinations of values of key columns.

    A missing value (null or NaN) counts as a value: None.

    :param keys: names of the columns.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        # The order of the dictionary is that of the numbers.
        self._numbers: dict[tuple[Any, ...], int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def assign(self, table: Any) -> npt.NDArray[np.int64]:
        """
        Return the number of each row's combination, and assign numbers to new ones.

        :raises InputError: if a key column has a type that cannot be a key.
        """
        import numpy as np
        import pandas as pd

        rows = len(table)
        codes = np.zeros(rows, np.int64)
        encoded = [_encode(key, table[key]) for key in self._keys]
        for indices, values in encoded:
            codes, _ = pd.factorize(codes * len(values) + indices)
        first = np.zeros(int(codes.max()) + 1 if rows else 0, np.int64)
        first[codes[::-1]] = np.arange(rows)[::-1]
        columns = [[values[index] for index in indices[first].tolist()] for indices, values in encoded]
        numbers = self._numbers
        found = [numbers.setdefault(values, len(numbers)) for values in zip(*columns, strict=True)]
        return np.array(found, np.int64)[codes]

    def columns(self) -> list[list[Any]]:
        """Return the values of each key, in the order of the numbers."""
        return [[values[position] for values in self._numbers] for position in range(len(self._keys))]


def _encode(key: str, column: Any) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return the position of each row's value among the different values of a column, and these values."""
    import numpy as np
    import pyarrow as pa

    kind_of(key, column.type)
    try:
        encoded = column.combine_chunks().dictionary_encode("encode")
    except pa.ArrowNotImplementedError as error:
        raise _invalid_key(key, column.type) from error
    if hasattr(encoded, "chunks"):  # combine_chunks() may return a chunked array
        encoded = encoded.combine_chunks() if not encoded.num_chunks else encoded.chunk(0)
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices, [plain_value(key, value) for value in encoded.dictionary]


def plain_value(key: str, scalar: Any) -> Any:
    """
    Return a key value as a Python value; None if it is missing.

    :raises InputError: if Python cannot represent it.
    """
    try:
        value = scalar.as_py()
    except (ValueError, OverflowError) as error:
        raise InputError(f"the key column {key!r} holds {scalar!s}: {error}") from error
    if isinstance(value, float):
        return None if value != value else value + 0.0  # noqa: PLR0124 - NaN; -0.0 becomes 0.0
    if type(value).__name__ == "Timestamp":  # pandas' type for nanoseconds
        if value.nanosecond:
            problem = "a datetime with nanoseconds, which cannot be a key; round it"
            raise InputError(f"the key column {key!r} holds {value.isoformat()}, {problem}.")
        value = value.to_pydatetime()
    if isinstance(value, datetime) and (offset := value.utcoffset()) is not None:
        # With a named time zone, the hour that occurs twice in autumn would be a single one.
        return value.astimezone(timezone(offset))
    return value


def kind_of(key: str, arrow_type: Any) -> str:
    """
    Return the kind of a key's values: text, whole, float, bool, date, moment or decimal.

    These names are part of the settings in the run folder.

    :raises InputError: if values of this type cannot be a key.
    """
    from pyarrow import types

    for kind, is_kind in (
        ("text", types.is_string),
        ("text", types.is_large_string),
        ("text", types.is_null),
        ("whole", types.is_integer),
        ("float", types.is_floating),
        ("bool", types.is_boolean),
        ("date", types.is_date),
        ("moment", types.is_timestamp),
        ("decimal", types.is_decimal),
    ):
        if is_kind(arrow_type):
            return kind
    raise _invalid_key(key, arrow_type)


def _invalid_key(key: str, arrow_type: Any) -> InputError:
    return InputError(f"the column {key!r} is of type {arrow_type}, so it cannot be a key; allowed: {_ALLOWED}.")


def pandas_type_of(kind: str, arrow_type: Any, values: Sequence[Any]) -> str:
    """Return the pandas type of a key column."""
    import numpy as np
    import pyarrow as pa

    if kind == "moment":
        zone = f", {arrow_type.tz}" if arrow_type.tz else ""
        return f"datetime64[{arrow_type.unit}{zone}]"
    if kind in {"whole", "float", "bool"}:
        facts = ColumnFacts(has_nulls=None in values)
        if kind == "whole":
            facts.note_values(pa.array(values, arrow_type))
        dtype, extension = types_with_nulls(arrow_type, facts)
        return dtype or extension or str(np.dtype(arrow_type.to_pandas_dtype()))
    return "str" if kind == "text" else "object"


def text_of(value: Any) -> str | None:
    """Return a key value as text, which worker processes convert back; None: the value is missing."""
    return None if value is None else _WRITE[type(value)](value)


_WRITE: dict[type, Callable[[Any], str]] = {
    str: str,
    int: str,
    float: repr,
    bool: lambda value: "true" if value else "false",
    date: date.isoformat,
    datetime: datetime.isoformat,
    Decimal: str,
}
