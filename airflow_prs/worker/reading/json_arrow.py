"""
JSON lines parsed by Arrow, which is several times faster than Python.

Arrow accepts more than Python does, and reads a few texts differently. So it reads only text in which both agree: what
is found here is what ``JsonTable`` finds without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Relative, because this package has another name in a worker process.
from .dtypes import text_type  # noqa: TID252

SHORTEST = 16 * 1024
"""Number of bytes below which Python is as fast."""

_PROBE_EVERY, _PROBE_LENGTH = 4096, 200
"""Any number of more than 4,300 digits, which Python does not read, is at one of the places that are looked at."""


def read_table(data: bytes, columns: Sequence[str], chosen: Sequence[str], dtypes: Mapping[str, str]) -> Any:
    """
    Return lines as a DataFrame; None: only Python reads them right, or knows what is wrong with them.

    :param data: lines in UTF-8.
    :param columns: all columns of the input.
    :param chosen: the columns of the frame.
    :param dtypes: the pandas type of each column.
    """
    try:
        import pyarrow as pa
        from pyarrow import json
    except ImportError:
        return None
    kinds = {
        "float64": pa.float64(),
        "int64": pa.int64(),
        "uint64": pa.uint64(),
        "bool": pa.bool_(),
        "str": pa.string(),
    }
    lines = _count_lines(data) if all(dtypes.get(name) in kinds for name in columns) else None
    if lines is None:
        return None
    schema = pa.schema([(name, kinds[dtypes[name]]) for name in columns])
    # An unexpected field could be nested too deeply for Python.
    options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    try:
        table = json.read_json(pa.BufferReader(data), parse_options=options)
        table.validate(full=True)  # that text is UTF-8
    except pa.ArrowInvalid:
        return None
    # As many records as lines means one on each: within a record, no line begins and the one before ends with a brace.
    if len(table) != lines or not all(map(_is_as_in_python, table.columns)):
        return None
    import pandas as pd

    text = text_type()
    mapper = None if text is object else {pa.string(): pd.api.types.pandas_dtype(text)}.get
    return table.select(chosen).to_pandas(types_mapper=mapper)


def _count_lines(data: bytes) -> int | None:
    """Return the number of lines; None: one of them does not begin and end with a brace."""
    import numpy as np

    # A NUL would be the end for Arrow.
    if not data.startswith(b"{") or not data.endswith((b"}", b"}\n", b"}\r\n")) or b"\0" in data:
        return None
    if any(data[at : at + _PROBE_LENGTH].isdigit() for at in range(0, len(data), _PROBE_EVERY)):
        return None
    text = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(text[:-1] == ord("\n"))
    last = text[breaks - 1]
    last = np.where(last == ord("\r"), text[breaks - 2], last)
    are_braces = (last == ord("}")).all() and (text[breaks + 1] == ord("{")).all()
    return len(breaks) + 1 if are_braces else None


def _is_as_in_python(column: Any) -> bool:
    """Whether pandas has the same values if Python parses them."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(column.type):
        # Without a type for text, pandas distinguishes null from an absent value.
        return not column.null_count or text_type() is not object
    if not pa.types.is_floating(column.type):
        return not column.null_count
    # Python reads -0 as an integer, refuses -NaN, and has integers that are too large for a float.
    values = column.drop_null().to_numpy()
    return bool(np.isfinite(values).all() and not np.signbit(values[values == 0]).any())
