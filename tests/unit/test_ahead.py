"""Working ahead changes when a thing is made, never what comes of it."""

from __future__ import annotations

import threading

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


def test_what_was_read_comes_in_the_order_of_the_paths():
    gate = threading.Event()

    def read(path):
        gate.wait(10) if path == "0" else gate.set()
        return path

    paths = [str(number) for number in range(100)]
    assert list(map_ahead(read, paths, threads=4)) == paths


def test_no_more_is_read_than_what_is_taken_soon():
    asked = iter(range(1000))
    reader = map_ahead(str, map(str, asked), threads=4)
    assert [next(reader) for _ in range(3)] == ["0", "1", "2"]
    reader.close()
    assert next(asked) < 50


def test_a_file_that_cannot_be_read_ends_it_after_those_before():
    def read(path):
        if path == "5":
            raise OSError(path)
        return path

    reader = map_ahead(read, map(str, range(100)), threads=4)
    assert [next(reader) for _ in range(5)] == list("01234")
    with pytest.raises(OSError, match="5"):
        next(reader)
