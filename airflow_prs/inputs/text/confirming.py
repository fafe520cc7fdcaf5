"""
Whether text holds what its columns were seen to hold before; Arrow says so many times faster than pandas reads.

Only a yes counts: what is confirmed here, pandas would read as the same kind. Where Arrow cannot read a text, or takes
what pandas would not (a whole number in hexadecimal, NAN), nothing is said, and pandas has to read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

MISSING_WORDS = (
    *("", "NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan", "<NA>"),
    *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""What pandas takes for a missing value."""

_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_ZERO, _SMALL_X, _LARGE_X = b"0xX"


class Kind(Enum):
    """What all values of a column are, apart from those that are missing."""

    MISSING = "null"
    BOOL = "bool"
    WHOLE = "int64"
    FLOAT = "double"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """
    A column of which all values are of the expected kind.

    :param has_missing: whether some are missing.
    :param is_empty: whether all are.
    :param extent: the lowest and the highest of whole numbers; None: there are none.
    """

    has_missing: bool
    is_empty: bool
    extent: tuple[int, int] | None


def confirm(
    text: bytes, separator: str, names: Sequence[str], expected: Mapping[str, Kind]
) -> dict[str, Confirmed] | None:
    """
    Check plain records: without comments, with quotes around whole fields alone.

    :param names: of all columns; as text.
    :param expected: the kind of each column that is to be checked.
    :return: the columns that are as expected; None: Arrow makes nothing of this text.
    """
    import pyarrow as pa

    try:
        if Kind.WHOLE in expected.values() and _may_be_hexadecimal(text):
            return _confirm_each(text, separator, names, expected)
        table = _read(text, separator, names, {name: pa.type_for_alias(kind.value) for name, kind in expected.items()})
    except pa.ArrowException:
        return _confirm_each(text, separator, names, expected)
    return {name: found for name, kind in expected.items() if (found := _look_at(table[name], kind)) is not None}


def _confirm_each(
    text: bytes, separator: str, names: Sequence[str], expected: Mapping[str, Kind]
) -> dict[str, Confirmed] | None:
    """Find the columns that are as expected where not all are."""
    import pyarrow as pa

    try:
        table = _read(text, separator, names, dict.fromkeys(expected, pa.string()))
    except pa.ArrowException:
        return None
    found = {name: _cast(table[name], kind) for name, kind in expected.items()}
    return {name: confirmed for name, confirmed in found.items() if confirmed is not None}


def _cast(words: Any, kind: Kind) -> Confirmed | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind is Kind.BOOL and not pc.all(pc.is_in(words.drop_null(), pa.array(_TRUE + _FALSE))).as_py():
        return None
    if kind is Kind.WHOLE and pc.any(pc.match_substring(words, "x", ignore_case=True)).as_py():
        return None
    try:
        return _look_at(words.cast(pa.type_for_alias(kind.value)), kind)
    except pa.ArrowException:
        return None


def _may_be_hexadecimal(text: bytes) -> bool:
    """Look for what Arrow takes for a whole number, and pandas for text."""
    import numpy as np

    if _SMALL_X not in text and _LARGE_X not in text:
        return False
    letters = np.frombuffer(text, np.uint8)
    are_x = (letters == _SMALL_X) | (letters == _LARGE_X)
    return bool((are_x[1:] & (letters[:-1] == _ZERO)).any())


def _read(text: bytes, separator: str, names: Sequence[str], types: Mapping[str, Any]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    return csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=list(names)),
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict(types),
            include_columns=list(types),
            check_utf8=False,
            null_values=list(MISSING_WORDS),
            strings_can_be_null=True,
            true_values=list(_TRUE),
            false_values=list(_FALSE),
        ),
    )


def _look_at(column: Any, kind: Kind) -> Confirmed | None:
    import pyarrow.compute as pc

    if kind is Kind.FLOAT and not pc.all(pc.is_finite(column), min_count=0).as_py():
        return None
    is_empty = column.null_count == len(column)
    extent = None
    if kind is Kind.WHOLE and not is_empty:
        found = pc.min_max(column).as_py()
        extent = found["min"], found["max"]
    return Confirmed(column.null_count > 0, is_empty, extent)
