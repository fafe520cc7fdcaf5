"""Common types for the values of two Arrow types, and casts to them without loss."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

# This module is imported only if the result is a Parquet file.
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

MOST_DIGITS = (38, 76)
"""The most digits of a decimal with 128 and with 256 bits."""

EMPTY = "empty"
"""Field of a struct without fields, which Parquet does not have; its values are null."""

KINDS: tuple[tuple[Callable[[Any], bool], ...], ...] = (
    (pa.types.is_integer, pa.types.is_floating),
    (pa.types.is_decimal,),
    (pa.types.is_string, pa.types.is_large_string),
    (pa.types.is_binary, pa.types.is_large_binary),
    (pa.types.is_date, pa.types.is_timestamp),
    (pa.types.is_time,),
    (pa.types.is_duration,),
    (pa.types.is_list, pa.types.is_large_list),
    (pa.types.is_struct,),
)
"""Groups of types; a value may be cast to another type of its group if it does not change."""


class LossError(Exception):
    """A cast would change a value."""


def widen(known: Any, new: Any) -> Any:
    """
    Return the type for the values of two types: with more digits or fields, or a type in place of null.

    If there is none, return the known type; cast() raises if that cannot hold the values.
    """
    if pa.types.is_null(known):
        return new
    if pa.types.is_decimal(known) and pa.types.is_decimal(new):
        return _widen_decimal(known, new)
    if pa.types.is_list(known) and pa.types.is_list(new):
        return pa.list_(widen(known.value_type, new.value_type))
    if pa.types.is_struct(known) and pa.types.is_struct(new):
        return _widen_struct(known, new)
    return known


def _widen_decimal(known: Any, new: Any) -> Any:
    scale = max(known.scale, new.scale)
    digits = max(known.precision - known.scale, new.precision - new.scale) + scale
    if (digits, scale) == (known.precision, known.scale) or digits > MOST_DIGITS[1]:
        return known
    return pa.decimal128(digits, scale) if digits <= MOST_DIGITS[0] else pa.decimal256(digits, scale)


def _widen_struct(known: Any, new: Any) -> Any:
    types = {field.name: field.type for field in _fields(known)}
    for field in _fields(new):
        types[field.name] = widen(types.get(field.name, pa.null()), field.type)
    return known if len(types) < known.num_fields else pa.struct(list(types.items()))


def storable(kind: Any) -> Any:
    """Return the type that Parquet stores for a type."""
    if pa.types.is_list(kind):
        return pa.list_(storable(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [(field.name, storable(field.type)) for field in _fields(kind)]
        return pa.struct(fields or [(EMPTY, pa.null())])
    return kind


def find_unstorable(fields: Iterable[Any]) -> tuple[Any, Exception] | None:
    """Return the first column that no Parquet file can hold, and what Arrow says of it."""
    for field in fields:
        try:
            pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
        except pa.ArrowException as error:  # noqa: PERF203 - to find the column
            return field, error
    return None


def cast(array: Any, kind: Any) -> Any:
    """
    Return an array cast to another type.

    :raises LossError: if a value would change.
    """
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_struct(array.type) and pa.types.is_struct(kind):
        return _cast_struct(array, kind)
    if pa.types.is_list(array.type) and pa.types.is_list(kind):
        buffers = array.buffers()[:2]
        values = cast(array.values, kind.value_type)
        return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, array.offset, [values])
    if not _are_kin(array.type, kind):
        raise LossError
    found = array.cast(kind)
    if not _are_equal(found.cast(array.type, safe=False), array):
        raise LossError
    return found


def cast_column(column: Any, kind: Any) -> Any:
    """Return a column cast to another type; see cast()."""
    return pa.chunked_array([cast(chunk, kind) for chunk in column.chunks], kind)


def _cast_struct(array: Any, kind: Any) -> Any:
    names = [field.name for field in _fields(array.type)]
    fields = _fields(kind)
    if len(set(names)) < len(names) or not set(names) <= {field.name for field in fields}:
        raise LossError
    if not fields:
        return array
    children = [
        cast(array.field(names.index(field.name)), field.type)
        if field.name in names
        else pa.nulls(len(array), field.type)
        for field in fields
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())


def _are_equal(one: Any, other: Any) -> bool:
    if pa.types.is_floating(one.type):  # NaN is not equal to itself
        return bool(one.is_null().equals(other.is_null())) and bool(
            pc.all(pc.or_kleene(pc.equal(one, other), pc.and_(pc.is_nan(one), pc.is_nan(other)))).as_py() is not False
        )
    return bool(one.equals(other))


def _fields(kind: Any) -> list[Any]:
    return [kind.field(place) for place in range(kind.num_fields)]


def _are_kin(one: Any, other: Any) -> bool:
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and (one.tz is None) != (other.tz is None):
        return False
    return any(any(is_(one) for is_ in kinds) and any(is_(other) for is_ in kinds) for kinds in KINDS)
