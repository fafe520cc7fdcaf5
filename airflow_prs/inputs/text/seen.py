"""
The values of a column so far, and the type that follows from them by the rules of pandas.

Integers with missing values become floats. One word among numbers makes the entire column text. There are two
differences to pandas, both in columns with missing values. Integers that a float would round are Int64. Integers that
only uint64 can hold are text in which missing values stay missing; pandas makes them empty text.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from airflow_prs.worker.reading.dtypes import MISSING_OR_BOOL, WHOLE_OBJECTS, are_exact_as_floats

MISSING_WORDS = (
    *("", "NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan", "<NA>"),
    *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""The words that pandas reads as missing values."""

# The grammar of pandas. Arrow alone would accept text (hexadecimal integers, NAN), and refuse "+7" and " 7".
_BLANK = "\t\n\v\f\r "
_WHOLE = rf"^[{_BLANK}]*[+-]?[0-9]+[{_BLANK}]*$"
_NUMBER = rf"(?i)^[{_BLANK}]*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf(inity)?)[{_BLANK}]*$"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    The values of a column so far.

    :param extent: the lowest and the highest integer before the first float; None: there are none; infinite: one has
        more digits than Python reads.
    """

    has_missing: bool = False
    has_truth: bool = False
    has_floats: bool = False
    has_text: bool = False
    extent: tuple[float, float] | None = None

    def followed_by(self, more: Seen) -> Seen:
        """Return the values of both, ``more`` being those of later rows."""
        extents = [seen.extent for seen in ((self,) if self.has_floats else (self, more)) if seen.extent is not None]
        return Seen(
            self.has_missing or more.has_missing,
            self.has_truth or more.has_truth,
            self.has_floats or more.has_floats,
            self.has_text or more.has_text,
            (min(low for low, _ in extents), max(high for _, high in extents)) if extents else None,
        )

    @property
    def is_text(self) -> bool:
        """Whether the column is text, which later rows cannot change."""
        if self.has_text or (self.has_truth and (self.has_floats or self.extent is not None)):
            return True
        # A number that is too large keeps pandas from trying floats, unless a float stands before it.
        return self.has_floats and self.extent is not None and self.extent[1] >= 2**64

    @property
    def dtype(self) -> str | None:
        """The type that holds all that was seen; None: nothing was."""
        if self.is_text:
            return "str"
        if self.has_truth:
            return MISSING_OR_BOOL if self.has_missing else "bool"
        if self.has_floats or self.extent is None:
            return "float64" if self.has_floats or self.has_missing else None
        return _whole_type(*self.extent, has_missing=self.has_missing)


def _whole_type(lowest: float, highest: float, *, has_missing: bool) -> str:
    if 2**63 <= highest < 2**64:
        return "str" if has_missing or lowest < 0 else "uint64"
    if highest >= 2**64 or lowest < -(2**63):
        return "str" if highest == inf else WHOLE_OBJECTS
    if not has_missing:
        return "int64"
    return "float64" if are_exact_as_floats(lowest, highest) else "Int64"


def look_at(words: Any, known: Seen) -> Seen:
    """
    Return what some rows of a column hold.

    :param words: as Arrow's text, with nulls where values are missing.
    :param known: the values of earlier rows: to check whether these are of the same kinds is much cheaper.
    """
    missing = Seen(has_missing=words.null_count > 0)
    if words.null_count == len(words):
        return missing
    return missing.followed_by(_more_of(words, known) or _by_grammar(words.drop_null()))


def _more_of(words: Any, known: Seen) -> Seen | None:
    """Return the values of rows of the same kinds as ``known``; None: they may be of other kinds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if known.has_floats:
        numbers = _cast(pc.ascii_trim(words, _BLANK), pa.float64())
        return Seen(has_floats=True) if numbers is not None and not pc.any(pc.is_nan(numbers)).as_py() else None
    if known.extent is None or any(map(_may_be_hexadecimal, words.chunks)):
        return None
    return _whole(pc.ascii_trim(words, _BLANK))


def _may_be_hexadecimal(words: Any) -> bool:
    letters = bytes(words.buffers()[2] or b"")
    return b"x" in letters or b"X" in letters


def _by_grammar(words: Any) -> Seen:
    """Return the values of rows of any kinds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.is_in(pc.ascii_lower(words), pa.array(["true", "false"]))).as_py():
        return Seen(has_truth=True)
    if not pc.all(pc.match_substring_regex(words, _NUMBER)).as_py():
        return Seen(has_text=True)
    first_float = pc.index(pc.match_substring_regex(words, _WHOLE), False).as_py()
    if first_float == 0:
        return Seen(has_floats=True)
    whole = words if first_float < 0 else words.slice(0, first_float)
    plain = pc.ascii_ltrim(pc.ascii_trim(whole, _BLANK), "+")
    seen = _whole(plain) or _whole_of_any_size(plain)
    return seen if first_float < 0 else seen.followed_by(Seen(has_floats=True))


def _whole_of_any_size(words: Any) -> Seen:
    try:
        numbers = list(map(int, words.to_pylist()))
    except ValueError:  # more digits than Python reads
        return Seen(extent=(-inf, inf))
    return Seen(extent=(min(numbers), max(numbers)))


def _whole(words: Any) -> Seen | None:
    """Return what rows of whole numbers hold; None: there are other words, or both signs with numbers beyond int64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = _cast(words, pa.int64())
    if numbers is None:
        numbers = _cast(words, pa.uint64())
    return None if numbers is None else Seen(extent=tuple(pc.min_max(numbers).as_py().values()))


def _cast(words: Any, kind: Any) -> Any:
    import pyarrow as pa

    try:
        words.slice(0, 64).cast(kind)  # most casts that fail do so soon, and Arrow would go on to the end
        return words.cast(kind)
    except pa.ArrowInvalid:
        return None
