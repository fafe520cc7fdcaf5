"""Conditions on rows, as plan has written them down, in pyarrow's words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from operator import and_, or_
from typing import Any

_MAKERS: dict[str, Callable[[str], Any]] = {
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "decimal": Decimal,
}


def expression_of(conditions: list[Any]) -> Any:
    """
    Give the expression that holds for the wanted rows.

    :param conditions: lists of name, operator and value that all hold; or a list of such lists, of which one holds.
    """
    groups = conditions if isinstance(conditions[0][0], list) else [conditions]
    return reduce(or_, (reduce(and_, (_condition(*condition) for condition in group)) for group in groups))


def _condition(name: str, operator: str, value: Any) -> Any:
    import pyarrow.compute
    import pyarrow.parquet

    if value is None:
        is_missing = pyarrow.compute.field(name).is_null()
        return ~is_missing if operator == "!=" else is_missing
    return pyarrow.parquet.filters_to_expression([(name, operator, _value(value))])


def _value(plain: Any) -> Any:
    """Make the value of what JSON can hold."""
    if isinstance(plain, list):
        return [_value(one) for one in plain]
    if isinstance(plain, dict):
        ((kind, text),) = plain.items()
        return _MAKERS[kind](text)
    return plain
