"""Row filters: the conditions that plan wrote, as pyarrow expressions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import reduce
from operator import and_, or_
from typing import Any

from ..values import decode  # noqa: TID252 - this package has another name in a worker process
from .alike import type_without_view  # noqa: TID252

_MEMBERSHIPS = ("in", "not in")


def columns_of(conditions: list[Any]) -> list[str]:
    """Return the columns that conditions compare, each once."""
    return list(dict.fromkeys(name for group in _groups(conditions) for name, _, _ in group))


def expression_of(conditions: list[Any], schema: Any) -> Any:
    """
    Return the expression that is true for exactly the rows that pass the filter.

    :param conditions: lists of name, operator and value, all of which must be true; or a list of such lists, one of
        which must be true.
    :param schema: schema of the rows, without views.
    """
    return _joined(conditions, lambda name, operator, value: _exactly(name, operator, value, schema))


def superset_of(conditions: list[Any], schema: Any) -> Any:
    """
    Return an expression that is true at least for the rows that pass the filter, also if applied to statistics.

    Statistics leave out NaN, which is unequal to every value, and do not distinguish -0.0 from 0.0.
    """
    import pyarrow.compute as pc

    def loosely(name: str, operator: str, value: Any) -> Any:
        if not has_unusable_statistics(name, schema):
            return _exactly(name, operator, value, schema)
        if operator in ("!=", "not in") or _is_view(name, schema):
            return pc.scalar(True)  # noqa: FBT003
        if operator == "in":
            return reduce(or_, (_compared(pc.field(name), "=", one) for one in value))
        return _compared(pc.field(name), operator, value)

    return _joined(conditions, loosely)


def has_unusable_statistics(name: str, schema: Any) -> bool:
    """Whether statistics of a column cannot be used to filter its rows: it holds floats, or views."""
    import pyarrow as pa

    return name in schema.names and (pa.types.is_floating(schema.field(name).type) or _is_view(name, schema))


def _is_view(name: str, schema: Any) -> bool:
    kind = schema.field(name).type
    return type_without_view(kind) is not kind


def _groups(conditions: list[Any]) -> list[Any]:
    return conditions if isinstance(conditions[0][0], list) else [conditions]


def _joined(conditions: list[Any], condition: Callable[[str, str, Any], Any]) -> Any:
    return reduce(or_, (reduce(and_, (condition(*one) for one in group)) for group in _groups(conditions)))


def _exactly(name: str, operator: str, value: Any, schema: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    field = pc.field(name)
    if value is None or name not in schema.names:
        return _compared(field, operator, value)
    kind = schema.field(name).type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        if any(map(_lacks_zone, _listed(value))):  # Arrow would treat it as UTC
            raise ValueError("a datetime without a time zone cannot be compared with one that has one")
        # Arrow does not compare datetimes of different time zones.
        return _compared(field, operator, value, pa.timestamp("us", kind.tz))
    if pa.types.is_uint64(kind) and all(type(one) is int and one >= 0 for one in _listed(value)):
        # Without the type old versions of Arrow cast the column to int64, which fails for large values.
        return _compared(field, operator, value, kind)
    if pa.types.is_floating(kind) and operator in _MEMBERSHIPS:
        # Adding 0.0 turns -0.0 into 0.0, so that both are equal as with the other operators.
        field = pc.add(field, pa.scalar(0.0, kind))
        value = [one + 0.0 if isinstance(one, float) else one for one in value]
    return _compared(field, operator, value)


def _listed(value: Any) -> list[Any]:
    return [one for one in value if one is not None] if isinstance(value, list) else [value]


def _lacks_zone(plain: Any) -> bool:
    made = decode(plain)
    return isinstance(made, date) and getattr(made, "tzinfo", None) is None


def _compared(field: Any, operator: str, value: Any, kind: Any = None) -> Any:
    """
    Return the expression that compares a column with a value.

    :param kind: Arrow type of the value; None: Arrow infers it.
    """
    import pyarrow as pa

    if value is None:
        return ~field.is_null() if operator == "!=" else field.is_null()
    made = decode(value)
    if kind is not None:
        made = pa.array(made, kind) if operator in _MEMBERSHIPS else pa.scalar(made, kind)
    return _OPERATORS[operator](field, made)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda field, value: field == value,
    "==": lambda field, value: field == value,
    "!=": lambda field, value: field != value,
    "<": lambda field, value: field < value,
    "<=": lambda field, value: field <= value,
    ">": lambda field, value: field > value,
    ">=": lambda field, value: field >= value,
    "in": lambda field, values: field.isin(values),
    "not in": lambda field, values: ~field.isin(values),
}
