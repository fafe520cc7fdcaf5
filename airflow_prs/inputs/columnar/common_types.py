"""The type in which pandas can hold the values of two Arrow types."""

from __future__ import annotations

from typing import Any

from airflow_prs.worker.reading.alike import family_of


def common_type(one: Any, other: Any) -> Any | None:
    """
    Return the type in which pandas can hold the values of two types.

    :return: None: there is none, or it would round numbers whatever their size.
    """
    import pyarrow as pa
    from pyarrow import types

    if types.is_null(one) or types.is_null(other):
        return other if types.is_null(one) else one
    if types.is_dictionary(one) or types.is_dictionary(other):
        values = common_type(*(kind.value_type if types.is_dictionary(kind) else kind for kind in (one, other)))
        return one if values is not None and family_of(one) == family_of(other) else values
    if one.equals(other) or (family_of(one) and family_of(one) == family_of(other)):
        return one
    for is_text, widest in ((_is_text, pa.large_string()), (_is_bytes, pa.large_binary())):
        if is_text(one) and is_text(other):
            return widest
    return _common_number(one, other) or _common_datetime(one, other)


def _common_number(one: Any, other: Any) -> Any | None:
    import pyarrow as pa
    from pyarrow import types

    wider = one if _width(one) >= _width(other) else other
    if types.is_integer(one) and types.is_integer(other):
        if types.is_signed_integer(one) == types.is_signed_integer(other):
            return wider
        return None if pa.uint64() in (one, other) else pa.int64()
    if is_float(one) and is_float(other):
        return wider
    return pa.float64() if all(types.is_integer(kind) or is_float(kind) for kind in (one, other)) else None


def _common_datetime(one: Any, other: Any) -> Any | None:
    import pyarrow as pa
    from pyarrow import types

    if types.is_date(one) and types.is_date(other):
        return pa.date64()
    units = ["s", "ms", "us", "ns"]
    if types.is_timestamp(one) and types.is_timestamp(other) and one.tz == other.tz:
        return max(one, other, key=lambda kind: units.index(kind.unit))
    if (types.is_duration(one) and types.is_duration(other)) or (types.is_time(one) and types.is_time(other)):
        return max(one, other, key=lambda kind: units.index(kind.unit))
    return None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def is_float(kind: Any) -> bool:
    """Return whether a type is a type of floats."""
    from pyarrow import types

    return bool(types.is_floating(kind))


def _width(kind: Any) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:  # types without a width
        return 0
