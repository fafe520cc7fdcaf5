"""
Which types the columns of a delimited input have: those that pandas would find if it read all files in one piece.

Each block is read by pandas, and what it found there is remembered in a few bits a column. The types follow from the
bits of all blocks, by the rules of pandas: an integer beside a missing value is a float, a word among numbers makes
text of them all. In one place they are left: beside missing values, whole numbers beyond 64 bits become text in which
missing values are missing, where pandas decides by their order and how they were written.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from airflow_prs.plan.columns import Names

if TYPE_CHECKING:
    import pandas as pd

MISSING_OR_BOOL = "bool_or_missing"
"""Truth values of which some are missing: objects, for which pandas has no type that could be asked for."""

WHOLE_OBJECTS = "whole_objects"
"""Whole numbers too large for any type of numpy: objects."""

_MISSING_WORDS = frozenset(
    (
        *("", "NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan", "<NA>"),
        *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    )
)
"""What pandas takes for a missing value."""

_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*|\s*[+-]?inf(inity)?\s*", re.ASCII | re.IGNORECASE)


class Seen(IntFlag):
    """What a column was seen to hold."""

    NOTHING = 0
    MISSING = 1
    WHOLE = 2
    NEGATIVE = 4
    UNSIGNED = 8
    HUGE = 16
    HUGE_NEGATIVE = 32
    WHOLE_OR_FLOAT = 64
    FLOAT = 128
    BOOL = 256
    TEXT = 512


_LARGE = Seen.UNSIGNED | Seen.HUGE | Seen.HUGE_NEGATIVE


class ColumnTypes:
    """
    Gathers what the columns of an input hold.

    :param arguments: says in the words of pandas how text in an encoding is read.
    :param given: columns whose types are not to be found out.
    """

    def __init__(self, arguments: Callable[[str], Mapping[str, Any]], given: Iterable[str] = ()) -> None:
        self._arguments = arguments
        self._given = frozenset(given)
        self._seen: dict[str | int, Seen] = {}

    def feed(self, text: bytes, names: Names, encoding: str) -> None:
        """
        Look at whole records.

        Records that cannot be read say nothing: their mini-batch alone fails.

        :param names: the columns of the text, in its order; columns known from other files are missing here.
        """
        for absent in self._seen.keys() - set(names):
            self._seen[absent] |= Seen.MISSING
        before = Seen.MISSING if self._seen_rows() else Seen.NOTHING
        for name in names:
            self._seen.setdefault(name, before)
        wanted = [position for position in range(len(names)) if self._is_open(names[position])]
        if wanted and text:
            frame = self._read(text, names, wanted, encoding)
            for position in wanted if len(frame) else ():
                name = names[position]
                self._seen[name] = _with(self._seen[name], frame[name])

    def settle(self) -> dict[str, str]:
        """Give the type of each column that was seen."""
        found = {str(name): _type_of(seen) for name, seen in self._seen.items() if str(name) not in self._given}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _seen_rows(self) -> bool:
        return any(self._seen.values())

    def _is_open(self, name: str | int) -> bool:
        """Whether more rows could change a column's type."""
        return not self._seen[name] & Seen.TEXT and str(name) not in self._given

    def _read(self, text: bytes, names: Names, wanted: list[int], encoding: str) -> Any:
        import pandas as pd

        arguments: dict[str, Any] = {
            **self._arguments(encoding),
            "names": names,
            "usecols": wanted,
            "index_col": False,
            "low_memory": False,
            "encoding_errors": "replace",
            "on_bad_lines": "skip",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            try:
                return pd.read_csv(io.BytesIO(text), header=None, **arguments)
            except (pd.errors.EmptyDataError, pd.errors.ParserError):
                return pd.DataFrame()


def _with(before: Seen, column: pd.Series[Any]) -> Seen:
    """Add what a column of one block holds."""
    kind = column.dtype.kind
    missing = Seen.MISSING if column.hasnans else Seen.NOTHING
    if kind == "b":
        return before | Seen.BOOL
    if kind == "i":
        return before | Seen.WHOLE | (Seen.NEGATIVE if column.min() < 0 else Seen.NOTHING)
    if kind == "u":
        return before | Seen.UNSIGNED
    if kind == "f":
        numbers = _numbers_in(column, missing)
        late = Seen.TEXT if numbers & Seen.FLOAT and before & Seen.HUGE and not before & Seen.FLOAT else Seen.NOTHING
        return before | missing | numbers | late
    present = column.dropna()
    if all(isinstance(value, bool) for value in present.iloc[:1]):
        return before | missing | Seen.BOOL
    return _with_words(before, column)


def _numbers_in(column: pd.Series[Any], missing: Seen) -> Seen:
    """Whole numbers beside missing ones came as floats."""
    if not missing:
        return Seen.FLOAT
    present = column.dropna()
    if not len(present):
        return Seen.NOTHING
    return Seen.FLOAT if bool((present % 1 != 0).any()) else Seen.WHOLE_OR_FLOAT


def _with_words(before: Seen, column: Iterable[object]) -> Seen:
    """Go through text, which may be numbers that no type of pandas holds; in their order, as pandas minds it."""
    seen = before
    for word in column:
        if isinstance(word, int) or (isinstance(word, str) and _WHOLE.fullmatch(word)):
            seen |= _whole(int(word))
        elif not isinstance(word, str) or word in _MISSING_WORDS:
            seen |= Seen.MISSING
        elif _NUMBER.fullmatch(word):
            # A number that is too large keeps pandas from trying floats, unless a float stands before it.
            seen |= Seen.TEXT if seen & Seen.HUGE and not seen & Seen.FLOAT else Seen.FLOAT
        else:
            seen |= Seen.TEXT
        if seen & Seen.TEXT:
            break
    return seen


def _whole(number: int) -> Seen:
    size = Seen.WHOLE
    if number >= 2**64:
        size = Seen.HUGE
    elif number >= 2**63:
        size = Seen.UNSIGNED
    elif number < -(2**63):
        size = Seen.HUGE_NEGATIVE
    return size | Seen.NEGATIVE if number < 0 else size


def _type_of(seen: Seen) -> str | None:
    """Give the type that holds all that was seen; None: nothing was."""
    rest = seen & ~Seen.MISSING
    if rest & Seen.TEXT or (rest & Seen.BOOL and rest != Seen.BOOL):
        return "str"
    if rest == Seen.BOOL:
        return MISSING_OR_BOOL if seen & Seen.MISSING else "bool"
    if rest & Seen.FLOAT:
        return "float64"
    if rest & _LARGE:
        return _type_of_large(seen)
    if seen & Seen.MISSING:
        return "float64"
    return "int64" if rest else None


def _type_of_large(seen: Seen) -> str:
    if seen & Seen.WHOLE_OR_FLOAT:
        return "str"  # what they would be depends on how the whole numbers were written; text loses nothing
    if seen & Seen.HUGE or not seen & Seen.UNSIGNED:
        return WHOLE_OBJECTS
    return "str" if seen & (Seen.MISSING | Seen.NEGATIVE) else "uint64"
