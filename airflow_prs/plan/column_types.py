"""
Which types the columns of a delimited input have: those that pandas would find if it read all files in one piece.

Each block is read by pandas, and what it found there is remembered in a few bits a column. The types follow from the
bits of all blocks, by the rules of pandas: an integer beside a missing value is a float, a word among numbers makes
text of them all. Most blocks bring nothing new: Arrow confirms that in threads, and pandas reads only the columns for
which it does not.

In one place the rules of pandas are left: beside missing values, whole numbers beyond 64 bits become text in which
missing values are missing, where pandas decides by their order and how they were written.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from airflow_prs.plan.columns import Names
from airflow_prs.plan.confirming import MISSING_WORDS, Confirmed, Kind, confirm

if TYPE_CHECKING:
    import pandas as pd

MISSING_OR_BOOL = "bool_or_missing"
"""Truth values of which some are missing: objects, for which pandas has no type that could be asked for."""

WHOLE_OBJECTS = "whole_objects"
"""Whole numbers too large for any type of numpy: objects."""

_MISSING_WORDS = frozenset(MISSING_WORDS)

_MOST_THREADS = 4
_TRIES_IN_VAIN = 3
"""How often more than not Arrow may fail to confirm what pandas then finds unchanged."""

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


_WHOLE_NUMBERS = Seen.WHOLE | Seen.NEGATIVE | Seen.WHOLE_OR_FLOAT
_BITS_OF = {Kind.MISSING: Seen.NOTHING, Kind.BOOL: Seen.BOOL, Kind.WHOLE: Seen.WHOLE, Kind.FLOAT: Seen.FLOAT}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """
    Records that were not looked at yet.

    :param names: of their columns.
    :param text: None: no column is open.
    :param expected: what Arrow is to confirm.
    :param answer: what it says.
    """

    names: Names
    encoding: str
    text: bytes | None
    expected: Mapping[str | int, Kind]
    answer: Future[dict[str, Confirmed] | None] | None


class ColumnTypes:
    """
    Gathers what the columns of an input hold; a context manager, as long as records come.

    :param arguments: says in the words of pandas how text in an encoding is read.
    :param given: columns whose types are not to be found out.
    """

    def __init__(self, arguments: Callable[[str], Mapping[str, Any]], given: Iterable[str] = ()) -> None:
        self._arguments = arguments
        self._given = frozenset(given)
        self._seen: dict[str | int, Seen] = {}
        self._in_vain: Counter[str | int | None] = Counter()
        self._waiting: deque[_Waiting] = deque()
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads)

    def __enter__(self) -> ColumnTypes:  # noqa: PYI034 - Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def feed(self, read_text: Callable[[], bytes], names: Names, encoding: str, *, is_plain: bool) -> None:
        """
        Take whole records.

        Records that cannot be read say nothing: their mini-batch alone fails.

        :param read_text: gives them.
        :param names: the columns of the text, in its order; columns known from other files are missing here.
        :param is_plain: whether there is nothing but simple fields and those that are quoted as a whole.
        """
        if not self._seen:
            self._look_at_all()
        text = read_text() if any(map(self._is_open, names)) else None
        expected = self._expected(names) if is_plain and text else {}
        self._waiting.append(_Waiting(names, encoding, text, expected, self._ask(text, names, expected)))
        if len(self._waiting) > 2 * self._threads:
            self._look_at(self._waiting.popleft())

    def _ask(
        self, text: bytes | None, names: Names, expected: Mapping[str | int, Kind]
    ) -> Future[dict[str, Confirmed] | None] | None:
        if text is None or not expected:
            return None
        by_name = {str(name): kind for name, kind in expected.items()}
        return self._pool.submit(confirm, text, self._arguments("utf-8")["sep"], list(map(str, names)), by_name)

    def _expected(self, names: Names) -> dict[str | int, Kind]:
        """Say of which kind the columns are until now, as far as that can be confirmed."""
        if self._in_vain[None] >= _TRIES_IN_VAIN:
            return {}
        kinds = {name: _kind_of(self._seen.get(name, Seen.NOTHING)) for name in names if self._is_open(name)}
        return {name: kind for name, kind in kinds.items() if kind is not None and self._in_vain[name] < _TRIES_IN_VAIN}

    def _look_at_all(self) -> None:
        while self._waiting:
            self._look_at(self._waiting.popleft())

    def _look_at(self, records: _Waiting) -> None:
        """Add what records hold."""
        for absent in self._seen.keys() - set(records.names):
            self._seen[absent] |= Seen.MISSING
        before = Seen.MISSING if self._seen_rows() else Seen.NOTHING
        for name in records.names:
            self._seen.setdefault(name, before)
        if records.text is None:
            return
        confirmed = self._confirmed(records)
        names = records.names
        wanted = [at for at in range(len(names)) if self._is_open(names[at]) and str(names[at]) not in confirmed]
        if wanted:
            frame = self._read(records.text, names, wanted, records.encoding)
            for position in wanted if len(frame) else ():
                name = names[position]
                self._seen[name] = _with(self._seen[name], frame[name])
        self._count_in_vain(records, confirmed)

    def _confirmed(self, records: _Waiting) -> Collection[str]:
        """Add what Arrow has confirmed, and name these columns."""
        if records.answer is None:
            return ()
        confirmed = records.answer.result()
        self._count(None, in_vain=confirmed is None)
        if confirmed is None:
            return ()
        for name, kind in records.expected.items():
            if (found := confirmed.get(str(name))) is not None:
                self._seen[name] |= _bits_of(found, kind)
        return confirmed

    def _count_in_vain(self, records: _Waiting, confirmed: Collection[str]) -> None:
        """Note the columns that pandas finds as they were, though Arrow could not confirm them."""
        for name, kind in records.expected.items():
            self._count(name, in_vain=str(name) not in confirmed and _kind_of(self._seen[name]) is kind)

    def _count(self, name: str | int | None, *, in_vain: bool) -> None:
        """
        Count what was asked in vain less what was not: where that becomes the rule, Arrow is not asked any more.

        :param name: of a column; None: Arrow made nothing of the text.
        """
        self._in_vain[name] = self._in_vain[name] + 1 if in_vain else max(0, self._in_vain[name] - 1)

    def settle(self) -> dict[str, str]:
        """Give the type of each column that was seen."""
        self._look_at_all()
        found = {str(name): _type_of(seen) for name, seen in self._seen.items() if str(name) not in self._given}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _seen_rows(self) -> bool:
        return any(self._seen.values())

    def _is_open(self, name: str | int) -> bool:
        """Whether more rows could change a column's type."""
        return str(name) not in self._given and not _is_text(self._seen.get(name, Seen.NOTHING))

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


def _kind_of(seen: Seen) -> Kind | None:
    """Say what a column holds, if that is simple enough to be confirmed."""
    rest = seen & ~Seen.MISSING
    if not rest:
        return Kind.MISSING if seen else None
    if rest == Seen.BOOL:
        return Kind.BOOL
    if rest & Seen.FLOAT:  # then it does not matter how large whole numbers are
        return None if rest & (Seen.TEXT | Seen.BOOL) else Kind.FLOAT
    return None if rest & ~_WHOLE_NUMBERS else Kind.WHOLE


def _bits_of(found: Confirmed, kind: Kind) -> Seen:
    """Say it as if pandas had read the column."""
    missing = Seen.MISSING if found.has_missing else Seen.NOTHING
    if found.is_empty:
        return missing
    if kind is Kind.WHOLE and missing:
        return missing | Seen.WHOLE_OR_FLOAT
    return missing | _BITS_OF[kind] | (Seen.NEGATIVE if found.has_negative else Seen.NOTHING)


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


def _is_text(seen: Seen) -> bool:
    rest = seen & ~Seen.MISSING
    return bool(rest & Seen.TEXT or (rest & Seen.BOOL and rest != Seen.BOOL))


def _type_of(seen: Seen) -> str | None:
    """Give the type that holds all that was seen; None: nothing was."""
    rest = seen & ~Seen.MISSING
    if _is_text(seen):
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
