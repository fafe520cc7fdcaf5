"""Checks of conditions on the rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from airflow_prs.wording import shown, wrong

ORDERS = ("<", "<=", ">", ">=")
MEMBERSHIPS = ("in", "not in")
OPERATORS = ("=", "==", "!=", *ORDERS, *MEMBERSHIPS)
CONDITIONS_ALLOWED = (
    "conditions that all hold, such as [('year', '>=', 2020)], or a list of such lists, of which one holds"
)
VALUES_ALLOWED = "text, a number, True or False, a date, a datetime (to the microsecond), a Decimal"


def filter_problems(rows_filter: Any) -> Iterator[str]:
    """Yield what is wrong with conditions, which are those of pandas and pyarrow."""
    if rows_filter is None:
        return
    is_list = _is_list(rows_filter) and bool(rows_filter)
    groups = rows_filter if is_list and all(map(_is_list_of_lists, rows_filter)) else [rows_filter]
    conditions = [condition for group in groups for condition in group] if is_list else []
    if not is_list or not all(map(_is_condition, conditions)):
        yield wrong("filter", rows_filter, CONDITIONS_ALLOWED)
        return
    for condition in conditions:
        yield from _value_problems(*condition)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_list_of_lists(group: Any) -> bool:
    return _is_list(group) and bool(group) and all(map(_is_list, group))


def _is_condition(condition: Any) -> bool:
    if not _is_list(condition) or len(condition) != 3:  # noqa: PLR2004 - name, operator, value
        return False
    name, operator, _ = condition
    return isinstance(name, str) and operator in OPERATORS


def _value_problems(name: str, operator: str, value: Any) -> Iterator[str]:
    place = f"filter on {name!r} with {operator!r}"
    if operator in MEMBERSHIPS:
        if not _is_list(value) or not value or not all(one is None or _is_value(one) for one in value):
            yield f"{place} has {shown(value)}; allowed: a list of at least one of these: {VALUES_ALLOWED}, None"
    elif operator in ORDERS and not _is_value(value):
        yield f"{place} has {shown(value)}; allowed: {VALUES_ALLOWED}"
    elif value is not None and not _is_value(value):
        yield f"{place} has {shown(value)}; allowed: {VALUES_ALLOWED}, or None for what is missing"


def _is_value(value: Any) -> bool:
    if getattr(value, "nanosecond", None):  # a Timestamp of pandas has them; those of NaT are NaN
        return False
    # NaN and NaT do not equal themselves; no row could equal them.
    return isinstance(value, str | int | float | date | Decimal) and value == value  # noqa: PLR0124
