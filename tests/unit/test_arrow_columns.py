"""Arrow arrays made without pandas are those that Arrow makes itself."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar, to_numbers

texts = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
numbers = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans()))


@settings(deadline=None)
@given(texts)
def test_texts(texts):
    array = of_texts(texts)
    array.validate(full=True)
    assert array.equals(pa.array(texts, pa.string()))


@settings(deadline=None)
@given(numbers)
def test_numbers_of_which_some_are_null(pairs):
    values = np.array([value for value, _ in pairs], np.int64)
    is_null = np.array([is_null for _, is_null in pairs], bool)
    array = of_numbers(values, is_null)
    array.validate(full=True)
    assert array.equals(pa.array(values, mask=is_null))


@pytest.mark.parametrize("kind", ["i1", "u2", "i4", "u8", "f4", "f8", "datetime64[ms]"])
def test_numbers_of_each_kind_that_have_gaps(kind):
    values = np.arange(20).astype(kind)[::3]
    assert of_numbers(values).equals(pa.array(values))


def test_a_text_for_every_row():
    joined = pc.binary_join_element_wise(of_texts(["a", "b"]), text_scalar("ü"), text_scalar("-"))
    assert joined.to_pylist() == ["a-ü", "b-ü"]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False)), st.integers(0, 3))
def test_numbers_are_the_same_back_again(values, first):
    assert to_numbers(pa.array(values, pa.float64())[first:]).tolist() == values[first:]


def test_numbers_of_an_empty_answer():
    assert to_numbers(pc.sort_indices(of_texts([]))).tolist() == []
