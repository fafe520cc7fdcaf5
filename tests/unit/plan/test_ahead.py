"""Reading ahead changes when a file is read, never what comes of it."""

import threading

import pytest

from airflow_prs.plan.ahead import read_ahead


def test_what_was_read_comes_in_the_order_of_the_paths():
    gate = threading.Event()

    def read(path):
        gate.wait(10) if path == "0" else gate.set()
        return path

    paths = [str(number) for number in range(100)]
    assert list(read_ahead(read, paths)) == paths


def test_no_more_is_read_than_what_is_taken_soon():
    asked = iter(range(1000))
    reader = read_ahead(str, map(str, asked))
    assert [next(reader) for _ in range(3)] == ["0", "1", "2"]
    reader.close()
    assert next(asked) < 50


def test_a_file_that_cannot_be_read_ends_it_after_those_before():
    def read(path):
        if path == "5":
            raise OSError(path)
        return path

    reader = read_ahead(read, map(str, range(100)))
    assert [next(reader) for _ in range(5)] == list("01234")
    with pytest.raises(OSError, match="5"):
        next(reader)
