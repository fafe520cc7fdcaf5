"""Positions held as bits are those that were given."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.plan.bits import Starts, count_by_table

positions = st.sets(st.integers(0, 400), min_size=1).map(sorted)


@given(positions, st.integers(-2, 402))
def test_positions_are_found_by_number_and_counted(listed, at):
    starts = Starts.of([position + 1000 for position in listed])
    assert [starts.at(number) - 1000 for number in range(len(starts))] == listed
    assert starts.count_to(at + 1000) == sum(position <= at for position in listed)
    assert starts.without_first().positions().tolist() == [position + 1000 for position in listed[1:]]
    assert starts.at_each(range(0, len(listed), 2)) == [position + 1000 for position in listed[::2]]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_ones_are_counted_without_the_newest_numpy(words):
    assert count_by_table(np.array(words, np.uint64)).tolist() == [word.bit_count() for word in words]
