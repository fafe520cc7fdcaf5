"""Paths in columns are what a list of them would be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputError
from airflow_prs.inputs.files.paths import PathColumn, Paths, sort_paths

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=40)
MORE_THAN_A_CHUNK = 40_000


def column_of(paths):
    column = PathColumn()
    for path in paths:
        column.append(path)
    return column


@settings(deadline=None)
@given(texts)
def test_paths_are_sorted_as_text_is_and_each_stands_once(paths):
    ordered, order = sort_paths(column_of(paths).finish(), may_repeat=True)
    assert [*ordered] == sorted(set(paths))
    assert [paths[number] for number in order] == [*ordered]


def test_many_paths_are_sorted_and_each_stands_once():
    paths = [f"/größe/{number * 7919 % MORE_THAN_A_CHUNK:05}" for number in range(MORE_THAN_A_CHUNK)]
    ordered, _ = sort_paths(column_of([*paths, *paths[::3]]).finish(), may_repeat=True)
    assert [*ordered] == sorted(paths)
    assert len(column_of(paths)) == len(ordered) == MORE_THAN_A_CHUNK


@settings(deadline=None)
@given(texts, st.data())
def test_paths_are_found_by_number_as_in_a_list(texts, data):
    paths = Paths.of(texts)
    assert [paths[number] for number in range(len(paths))] == texts
    numbers = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1))) if texts else [], np.int64)
    assert paths.take(numbers).to_pylist() == [texts[number] for number in numbers]
    part = data.draw(st.slices(len(texts)))
    assert [*paths[part]] == texts[part]


@pytest.mark.parametrize("position", [0, 7, 9])
def test_a_path_that_is_not_utf8_is_named(position):
    paths = [f"/ä{number}" for number in range(10)]
    paths[position] = "/bad\udcff"
    with pytest.raises(InputError, match=r"'/bad\\udcff' is not valid UTF-8"):
        Paths.of(paths)
