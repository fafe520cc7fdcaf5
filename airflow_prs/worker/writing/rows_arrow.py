"""Delimited text made by Arrow: the same bytes as the writer that uses pandas, several times faster."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# This module is imported only if pyarrow is worth its import.
import numpy as np  # noqa: TID253
import pandas as pd  # noqa: TID253
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253

SLICE_CELLS = 65_536
SEPARATORS = " ,;\t|"
"""Separators that occur neither in numbers nor in True and False."""

INTEGERS = frozenset({"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"})
TEXT = pa.large_string()


def _first_exponent() -> float:
    """Return the size from which this version of Arrow writes floats with an exponent; numpy does from 1e16."""
    sizes = 10.0 ** np.arange(17)
    has_exponent = pc.match_substring(pa.array(1.5 * sizes).cast(TEXT), "e").to_pylist()
    return float(sizes[has_exponent.index(True)]) if True in has_exponent else 1e15


PLAIN_FLOATS = (1e-4, _first_exponent())
"""In this range neither numpy nor Arrow writes an exponent; they differ only in the ".0" of whole numbers."""


def suits(frame: Any, sep: str) -> bool:
    """Whether this module writes all columns of a DataFrame as pandas does, by their types."""
    return sep in SEPARATORS and len(frame.columns) > 0 and all(map(_is_known, frame.dtypes))


def write_slices(frame: Any, sep: str, write: Callable[[Any], Any], write_as_pandas: Callable[[Any], Any]) -> None:
    """
    Write a DataFrame for which suits() is true, without header and index.

    :param write: takes the next bytes.
    :param write_as_pandas: takes a slice of the DataFrame with objects that are not text.
    """
    rows = max(1, SLICE_CELLS // len(frame.columns))
    special = f'[{re.escape(sep)}"\r\n]'
    columns = [_values_of(frame.iloc[:, place]) for place in range(len(frame.columns))]
    for start in range(0, len(frame), rows):
        cells = _cells([column[start : start + rows] for column in columns], special)
        if cells is None:
            write_as_pandas(frame.iloc[start : start + rows])
        else:
            write(_join(cells, sep))


def _is_known(dtype: Any) -> bool:
    if isinstance(dtype, np.dtype):
        return dtype.kind in "iubO" or dtype == np.float64
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.api.types.infer_dtype(dtype.categories) == "string"
    return isinstance(dtype, pd.StringDtype) or str(dtype) in INTEGERS or str(dtype) == "boolean"


def _values_of(column: Any) -> Any:
    """Return the values of a column as an array, which is cheap to slice."""
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def _cells(columns: list[Any], special: str) -> list[Any] | None:
    """Return the text of all cells, column by column, null for missing values; None: an object is not text."""
    cells = []
    for values in columns:
        try:
            text = _text_of(values, special)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None  # objects of several types, or text that UTF-8 cannot encode
        if text is None:
            return None
        cells.append(text)
    return cells


def _text_of(values: Any, special: str) -> Any:
    kind = values.dtype.kind if isinstance(values, np.ndarray) else ""
    if kind == "f":
        return _floats(np.ascontiguousarray(values))
    array = pa.array(values, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_boolean(array.type) and kind != "O":
        return pc.if_else(array, pa.scalar("True", TEXT), pa.scalar("False", TEXT))
    if pa.types.is_integer(array.type) and kind != "O":
        return array.cast(TEXT)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_null(array.type):
        return _quote(array.cast(TEXT), special)
    return None


def _floats(values: Any) -> Any:
    size = np.abs(values)
    # False for NaN and for infinity.
    is_plain = (size >= PLAIN_FLOATS[0]) & (size < PLAIN_FLOATS[1])
    is_whole = is_plain & (values == np.trunc(values)) | (size == 0)
    others = ~(is_plain | is_whole | np.isnan(values))
    text = pa.array(values, from_pandas=True).cast(TEXT)
    if is_whole.any():
        with_point = pc.binary_join_element_wise(text, pa.scalar(".0", TEXT), pa.scalar("", TEXT))
        text = pc.if_else(pa.array(is_whole), with_point, text)
    if others.any():
        text = pc.replace_with_mask(text, pa.array(others), pa.array(values[others].astype(str), TEXT))
    return text


def _quote(text: Any, special: str) -> Any:
    needs_quotes = pc.match_substring_regex(text, special)
    if not pc.any(needs_quotes).as_py():
        return text
    mark, nothing = pa.scalar('"', TEXT), pa.scalar("", TEXT)
    quoted = pc.binary_join_element_wise(mark, pc.replace_substring(text, '"', '""'), mark, nothing)
    return pc.if_else(needs_quotes, quoted, text)


def _join(cells: list[Any], sep: str) -> memoryview:
    nothing = pa.scalar("", TEXT)
    if len(cells) == 1:  # an empty line would not count as a row
        text = pc.fill_null(cells[0], nothing)
        cells = [pc.if_else(pc.equal(text, nothing), pa.scalar('""', TEXT), text)]
    last = pc.binary_join_element_wise(pc.fill_null(cells[-1], nothing), nothing, pa.scalar("\n", TEXT))
    joined = pc.binary_join_element_wise(
        *cells[:-1], last, pa.scalar(sep, TEXT), null_handling="replace", null_replacement=""
    )
    _, offsets, data = joined.buffers()
    begin, end = np.frombuffer(offsets, np.int64)[[joined.offset, joined.offset + len(joined)]].tolist()
    return memoryview(data)[begin:end]
