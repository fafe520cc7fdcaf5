"""What Arrow writes is what pandas writes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from airflow_prs.worker.writing import rows_arrow
from airflow_prs.worker.writing.rows import TEXT, write_frame

TEXTS = st.text(st.sampled_from("ab \",;\t|\n'ä\0\U0001f600"), max_size=6)
CELLS = {
    "str": TEXTS | st.none(),
    "object": TEXTS | st.none() | st.just(float("nan")),
    "category": TEXTS | st.none(),
    "Int64": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "boolean": st.booleans() | st.none(),
    "mixed": TEXTS | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(st.integers(), max_size=2),
}
NUMPY = ["bool", "int8", "int64", "uint64", "float64", "float32", "float16"]


@st.composite
def frames(draw):
    """Make a DataFrame of some rows, its columns of any of these types."""
    rows = draw(st.integers(0, 5))
    columns = []
    for kind in draw(st.lists(st.sampled_from([*CELLS, *NUMPY]), min_size=1, max_size=4)):
        if kind in NUMPY:
            columns.append(pd.Series(draw(st_numpy.arrays(kind, rows))))
        else:
            cells = draw(st.lists(CELLS[kind], min_size=rows, max_size=rows))
            columns.append(pd.Series(cells, dtype={"mixed": "object"}.get(kind, kind)))
    return pd.concat(columns, axis=1, keys=range(len(columns)))


def text_of(frame, sep):
    written = []
    write_frame(frame, lambda data: written.append(bytes(data)), {**TEXT, "sep": sep})
    return b"".join(written).decode()


@given(frames(), st.sampled_from(rows_arrow.SEPARATORS))
@settings(max_examples=300, deadline=None)
def test_the_text_is_that_of_pandas(frame, sep):
    assert text_of(frame, sep) == frame.to_csv(sep=sep, header=False, index=False)


@given(st_numpy.arrays("float64", 50))
@settings(max_examples=100, deadline=None)
def test_floats_are_exact_at_every_size(values):
    with np.errstate(all="ignore"):
        sized = values[:, None] * 10.0 ** np.arange(-8, 20, 3)
    frame = pd.DataFrame(np.concatenate([sized, np.round(values[:, None])], axis=1))
    with np.errstate(all="ignore"):
        assert text_of(frame, " ") == frame.to_csv(sep=" ", header=False, index=False)


def test_slices_follow_each_other(monkeypatch):
    monkeypatch.setattr(rows_arrow, "SLICE_CELLS", 8)
    frame = pd.DataFrame({"n": range(100), "s": ["a b", None] * 50})
    assert text_of(frame, " ") == frame.to_csv(sep=" ", header=False, index=False)


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[ns]", "Float64", "float32", "complex128"])
def test_other_types_are_left_to_pandas(dtype):
    assert not rows_arrow.suits(pd.DataFrame({"x": pd.Series([1, 2]).astype(dtype)}), " ")
