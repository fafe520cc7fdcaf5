"""What a column was seen to hold, in a few bits, and the type that follows; the rules are those of pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from airflow_prs.inputs.text.confirming import MISSING_WORDS, Confirmed, Kind
from airflow_prs.worker.reading.dtypes import MISSING_OR_BOOL, WHOLE_OBJECTS, are_exact_as_floats

if TYPE_CHECKING:
    import pandas as pd

_MISSING_WORDS = frozenset(MISSING_WORDS)

_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*|\s*[+-]?inf(inity)?\s*", re.ASCII | re.IGNORECASE)


class Seen(IntFlag):
    """What a column was seen to hold; WIDE: whole numbers that a float would round."""

    NOTHING = 0
    MISSING = 1
    WHOLE = 2
    NEGATIVE = 4
    UNSIGNED = 8
    HUGE = 16
    HUGE_NEGATIVE = 32
    WIDE = 64
    FLOAT = 128
    BOOL = 256
    TEXT = 512


_LARGE = Seen.UNSIGNED | Seen.HUGE | Seen.HUGE_NEGATIVE


_WHOLE_NUMBERS = Seen.WHOLE | Seen.NEGATIVE | Seen.WIDE
_BITS_OF = {Kind.MISSING: Seen.NOTHING, Kind.BOOL: Seen.BOOL, Kind.WHOLE: Seen.WHOLE, Kind.FLOAT: Seen.FLOAT}


def kind_of(seen: Seen) -> Kind | None:
    """Say what a column holds, if that is simple enough to be confirmed."""
    rest = seen & ~Seen.MISSING
    if not rest:
        return Kind.MISSING if seen else None
    if rest == Seen.BOOL:
        return Kind.BOOL
    if rest & Seen.FLOAT:  # then it does not matter how large whole numbers are
        return None if rest & (Seen.TEXT | Seen.BOOL) else Kind.FLOAT
    return None if rest & ~_WHOLE_NUMBERS else Kind.WHOLE


def bits_of(found: Confirmed, kind: Kind) -> Seen:
    """Return what pandas would have seen in a column that Arrow has confirmed."""
    missing = Seen.MISSING if found.has_missing else Seen.NOTHING
    if found.is_empty:
        return missing
    return missing | (_BITS_OF[kind] if found.extent is None else _whole_between(*found.extent))


def with_column(before: Seen, column: pd.Series[Any]) -> Seen:
    """Add what a column of one block holds."""
    kind = column.dtype.kind
    missing = Seen.MISSING if column.hasnans else Seen.NOTHING
    if kind == "b":
        return before | Seen.BOOL
    if kind == "i":
        return before | _whole_between(int(column.min()), int(column.max()))
    if kind == "u":
        return before | Seen.UNSIGNED
    if kind == "f":
        return before | missing | (_late_float(before) if column.notna().any() else Seen.NOTHING)
    present = column.dropna()
    if all(isinstance(value, bool) for value in present.iloc[:1]):
        return before | missing | Seen.BOOL
    return _with_words(before, column)


def may_be_whole(before: Seen, column: pd.Series[Any]) -> bool:
    """Whether a column that came as floats may hold whole numbers beside missing ones, and that matters."""
    if column.dtype.kind != "f" or before & Seen.FLOAT or not column.hasnans:
        return False
    present = column.dropna()
    return len(present) > 0 and bool((present % 1 == 0).all())


def with_numbers(before: Seen, column: pd.Series[Any]) -> Seen:
    """Add numbers beside missing ones, as they are written."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = column.dropna()
    try:
        extent = pc.min_max(pa.array(words, pa.string()).cast(pa.int64())).as_py()
    except pa.ArrowException:
        is_float = any(not _WHOLE.fullmatch(word) for word in words)
        return before | Seen.MISSING | _late_float(before) if is_float else _with_words(before, column)
    return before | Seen.MISSING | _whole_between(extent["min"], extent["max"])


def _late_float(before: Seen) -> Seen:
    """A number that is too large keeps pandas from trying floats, unless a float stands before it."""
    return Seen.TEXT if before & Seen.HUGE and not before & Seen.FLOAT else Seen.FLOAT


def _with_words(before: Seen, column: Iterable[object]) -> Seen:
    """Go through text, which may be numbers that no type of pandas holds; in their order, as pandas minds it."""
    seen = before
    for word in column:
        if isinstance(word, int) or (isinstance(word, str) and _WHOLE.fullmatch(word)):
            seen |= _whole(int(word))
        elif not isinstance(word, str) or word in _MISSING_WORDS:
            seen |= Seen.MISSING
        elif _NUMBER.fullmatch(word):
            seen |= _late_float(seen)
        else:
            seen |= Seen.TEXT
        if seen & Seen.TEXT:
            break
    return seen


def _whole_between(lowest: int, highest: int) -> Seen:
    return _whole(lowest) | _whole(highest)


def _whole(number: int) -> Seen:
    size = Seen.WHOLE
    if number >= 2**64:
        size = Seen.HUGE
    elif number >= 2**63:
        size = Seen.UNSIGNED
    elif number < -(2**63):
        size = Seen.HUGE_NEGATIVE
    elif not are_exact_as_floats(number, number):
        size |= Seen.WIDE
    return size | Seen.NEGATIVE if number < 0 else size


def is_text(seen: Seen) -> bool:
    """Whether a column is text, whatever comes."""
    rest = seen & ~Seen.MISSING
    return bool(rest & Seen.TEXT or (rest & Seen.BOOL and rest != Seen.BOOL))


def type_of(seen: Seen) -> str | None:
    """Give the type that holds all that was seen; None: nothing was."""
    rest = seen & ~Seen.MISSING
    if is_text(seen):
        return "str"
    if rest == Seen.BOOL:
        return MISSING_OR_BOOL if seen & Seen.MISSING else "bool"
    if rest & Seen.FLOAT:
        return "float64"
    if rest & _LARGE:
        return _type_of_large(seen)
    if seen & Seen.MISSING:
        return "Int64" if seen & Seen.WIDE else "float64"
    return "int64" if rest else None


def _type_of_large(seen: Seen) -> str:
    if seen & Seen.HUGE or not seen & Seen.UNSIGNED:
        return WHOLE_OBJECTS
    return "str" if seen & (Seen.MISSING | Seen.NEGATIVE) else "uint64"
