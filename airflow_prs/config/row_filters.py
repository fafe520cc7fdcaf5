"""
Conditions on the rows of Parquet files: what they may be, and how they are written as plain values.

JSON has text, numbers, True, False and None; any other value is written as a dictionary of its type to its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from airflow_prs.wording import shown, wrong

ORDERS = ("<", "<=", ">", ">=")
MEMBERSHIPS = ("in", "not in")
OPERATORS = ("=", "==", "!=", *ORDERS, *MEMBERSHIPS)
CONDITIONS_ALLOWED = (
    "conditions that all hold, such as [('year', '>=', 2020)], or a list of such lists, of which one holds"
)
_MAKERS: dict[str, Callable[[str], Any]] = {
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "decimal": Decimal,
}
VALUES_ALLOWED = "text, a number, True or False, a date, a datetime (to the microsecond), a Decimal"


def filter_problems(rows_filter: Any) -> Iterator[str]:
    """Check conditions, which are those of pandas and pyarrow."""
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


def filter_to_plain(value: Any) -> Any:
    """Write conditions, or a value in one, as JSON can hold them."""
    if isinstance(value, list | tuple):
        return [filter_to_plain(inner) for inner in value]
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(timezone.utc)
        return {"datetime": moment.isoformat(timespec="microseconds")}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def filter_from_plain(value: Any) -> Any:
    """Read what ``filter_to_plain`` wrote."""
    if isinstance(value, list | tuple):
        return [filter_from_plain(inner) for inner in value]
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        return _MAKERS[kind](text)
    return value


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
    if getattr(value, "nanosecond", None):  # of pandas' Timestamp; not even a number where that is NaT
        return False
    # What is not equal to itself is not a number, or no moment: nothing is equal to it.
    return isinstance(value, str | int | float | date | Decimal) and value == value  # noqa: PLR0124
