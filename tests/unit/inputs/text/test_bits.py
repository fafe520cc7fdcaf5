"""Marks held as bits say what a look at byte after byte says."""

import itertools
import operator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.inputs.text.bits import Marker, Starts, after, between, count_by_table, last_of, pack

masks = st.lists(st.booleans(), min_size=1, max_size=300)
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


@given(masks, st.booleans())
def test_what_lies_between_marks_is_found(mask, is_open):
    inside = list(itertools.accumulate(mask, operator.xor, initial=is_open))[1:]
    assert unpacked(between(marks(mask), is_open=is_open), len(mask)) == inside


@given(masks, st.booleans())
def test_marks_move_by_one_byte(mask, first):
    assert unpacked(after(marks(mask), first=first), len(mask)) == [first, *mask[:-1]]


@given(masks, st.integers(0, 10_000))
def test_the_last_mark_is_found_however_far_from_the_end(mask, more):
    last = max((at for at, is_marked in enumerate(mask) if is_marked), default=None)
    assert last_of(marks(mask + [False] * more)) == last


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4), st.integers(0, 255))
def test_a_block_is_marked_whatever_was_marked_before(blocks, byte):
    marker = Marker()
    for block in blocks:
        text = np.frombuffer(block, np.uint8)
        equal, up_to = marker.equal(text, byte), marker.up_to(text, byte)
        assert unpacked(equal, len(block)) == [letter == byte for letter in block]
        assert unpacked(up_to, len(block)) == [letter <= byte for letter in block]


def marks(mask):
    return pack(np.array(mask))


def unpacked(bits, size):
    return np.unpackbits(bits.view(np.uint8), count=size, bitorder="little").astype(bool).tolist()
