"""Values that JSON has no type for: dates, datetimes and decimals, written as ``{"moment": "2026-03-01T00:00:00"}``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

MAKERS: dict[str, Callable[[str], Any]] = {
    "moment": datetime.fromisoformat,
    "datetime": datetime.fromisoformat,  # in filters of run folders that were planned before there was one name
    "date": date.fromisoformat,
    "decimal": Decimal,
}
"""Kind to the function that makes the value from its text."""


def encode(value: Any) -> Any:
    """
    Return a value, or lists of values, as JSON can hold them.

    :raises TypeError: if a value is neither known to JSON nor a date, datetime or Decimal.
    """
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, datetime):
        return {"moment": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    raise TypeError(f"{type(value).__name__} is not text, a number, a date, a datetime or a Decimal")


def decode(plain: Any) -> Any:
    """Return the value that ``encode`` wrote; a list is decoded value by value, and any other value stays."""
    if isinstance(plain, list):
        return [decode(one) for one in plain]
    if isinstance(plain, dict):
        ((kind, text),) = plain.items()
        return MAKERS[kind](text)
    return plain
