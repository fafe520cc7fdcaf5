"""
Convert numbers and texts to Arrow arrays and back, without importing pandas.

Arrow's own conversions (``pa.array``, ``pa.scalar``, ``to_numpy``) import pandas, to check whether a value belongs to
it. The import can take a second, which is longer than the work of plan and merge in most runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa


def of_numbers(numbers: npt.NDArray[Any], is_null: npt.NDArray[Any] | None = None) -> pa.Array:
    """
    Return an array of numbers or datetimes, which keeps their memory alive.

    :param numbers: one-dimensional; must not be changed afterwards, since they are only copied if not contiguous.
    :param is_null: True where the array has null; None: nowhere.
    """
    import numpy as np
    import pyarrow as pa

    validity = None
    if is_null is not None:
        validity = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(numbers).view("u1"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [validity, data])


def of_texts(texts: Sequence[str | None]) -> pa.StringArray:
    """
    Return an array of texts.

    :param texts: at most 2 GiB in UTF-8; None becomes null.
    """
    import numpy as np
    import pyarrow as pa

    encoded = [b"" if text is None else text.encode() for text in texts]
    ends = np.fromiter(itertools.accumulate(map(len, encoded), initial=0), np.int32, len(encoded) + 1)
    validity = None
    if None in texts:
        validity = pa.py_buffer(np.packbits([text is not None for text in texts], bitorder="little"))
    data = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), data, validity)


def text_scalar(text: str) -> pa.StringScalar:
    """Return a scalar, which Arrow functions take as the same text in every row."""
    return of_texts([text])[0]


def to_numbers(array: pa.Array) -> npt.NDArray[Any]:
    """
    Return the numbers of an array for numpy, without a copy; they must not be changed.

    :param array: integers or floats without nulls.
    """
    import numpy as np

    return np.from_dlpack(array)
