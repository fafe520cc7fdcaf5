"""Working ahead changes when a thing is made, never what comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.ahead import map_ahead, one_ahead


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 4))
def test_what_is_made_comes_in_order_as_without_threads(elements, threads):
    assert list(map_ahead(str, elements, threads=threads)) == list(map(str, elements))
    with one_ahead(map(str, elements)) as made:
        assert list(made) == list(map(str, elements))


def test_no_more_is_taken_than_lies_ready():
    source = iter(range(1000))
    made = map_ahead(str, source, threads=2)
    assert [next(made) for _ in range(3)] == ["0", "1", "2"]
    made.close()
    assert next(source) == 5


def test_what_the_source_raises_is_raised_to_whoever_takes():
    def source():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(map_ahead(str, source(), threads=2))
    with pytest.raises(OSError, match="gone"), one_ahead(source()) as made:
        list(made)
