import os
import zlib

import numpy as np
import pandas as pd
import pytest

from airflow_prs.worker.rows import WRITE_SIZE, BadResultError, RowsFile, elements_of, write_elements


@pytest.fixture
def rows_path(tmp_path):
    return tmp_path / "process000.rows"


@pytest.fixture
def rows_file(rows_path):
    fd = os.open(rows_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield RowsFile(fd)
    os.close(fd)


def text_of(elements):
    written = []
    write_elements(elements, lambda data: written.append(bytes(data)))
    return b"".join(written)


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        (["a", 1, None], b"a\n1\nNone\n"),
        ((0.1, "ä"), "0.1\nä\n".encode()),
        ([], b""),
        ([["a", 1]], b"['a', 1]\n"),
        (np.array([1, 2]), b"1\n2\n"),
        (pd.Series(["a", "b"]), b"a\nb\n"),
        ((n * n for n in range(3)), b"0\n1\n4\n"),
        (range(2), b"0\n1\n"),
    ],
)
def test_each_element_is_a_line(result, rows):
    assert text_of(elements_of(result)) == rows


def test_a_data_frame_is_written_as_the_original_does():
    frame = pd.DataFrame({"name": ["a b", "c"], "value": [0.1, float("nan")]}, index=[7, 8])
    assert text_of(frame) == b'"a b" 0.1\nc \n'


def test_a_file_name_that_is_no_text_is_written_as_it_is():
    assert text_of([os.fsdecode(b"caf\xe9.png")]) == b"caf\xe9.png\n"


def test_text_of_a_data_frame_is_written_as_it_is():
    frame = pd.DataFrame({"text": [os.fsdecode(b"caf\xe9"), "two\r\nlines", "ä"]}, dtype=object)
    assert text_of(frame) == b'caf\xe9\n"two\r\nlines"\n' + "ä\n".encode()


def test_many_rows_of_a_data_frame_are_those_that_pandas_writes_at_once():
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=150_000, freq="h"), "n": range(150_000)})
    assert text_of(frame).decode() == frame.to_csv(sep=" ", header=False, index=False)


@pytest.mark.parametrize(
    "elements",
    [["x" * 100] * 100_000, [b"y" * 2 * WRITE_SIZE] * 5, pd.DataFrame({"n": ["z" * 100] * 100_000})],
    ids=["short", "long", "frame"],
)
def test_however_much_there_is_little_is_held_as_text_at_a_time(elements):
    sizes = []
    write_elements(elements, lambda data: sizes.append(len(data)))
    longest = max(len(str(element)) for element in elements[:1])
    assert max(sizes) <= WRITE_SIZE + longest + 100
    assert len(sizes) > 4


@pytest.mark.parametrize("result", ["done", b"done", 42, 4.2, True, np.float64(1), {"a": 1}, object(), np.array(3)])
def test_what_has_no_elements_is_refused_with_its_type_and_what_to_return(result):
    with pytest.raises(BadResultError, match=f"{type(result).__name__}; it must return a pandas DataFrame, or a list"):
        elements_of(result)


def test_none_is_refused_with_its_likely_reason():
    with pytest.raises(BadResultError, match=r"returned None \(is a return statement missing"):
        elements_of(None)


def test_a_long_text_is_not_quoted_whole():
    with pytest.raises(BadResultError) as refused:
        elements_of("x" * 1_000_000)
    assert len(str(refused.value)) < 400


def test_a_table_that_iterates_over_columns_is_refused():
    class ForeignTable:
        def __len__(self):
            return 3

        def __iter__(self):
            return iter(["column 1", "column 2"])

    with pytest.raises(BadResultError, match="length 3 that has 2 elements"):
        text_of(elements_of(ForeignTable()))


def test_appended_rows_are_found_by_offset_and_length(rows_file, rows_path):
    first = rows_file.append(["one"])
    second = rows_file.append(["three"])
    assert (first, second) == ((0, 4, zlib.crc32(b"one\n")), (4, 6, zlib.crc32(b"three\n")))
    assert rows_path.read_bytes() == b"one\nthree\n"


def test_rows_follow_what_stands_in_the_file_already(rows_path):
    rows_path.write_bytes(b"torn")
    fd = os.open(rows_path, os.O_WRONLY | os.O_APPEND)
    assert RowsFile(fd).append(["one"])[0] == 4
    os.close(fd)


def test_no_rows_leave_the_file_as_it_is(rows_file, rows_path):
    assert rows_file.append([]) == (0, 0, 0)
    assert rows_path.read_bytes() == b""


def test_a_failed_write_leaves_nothing_behind(rows_file, rows_path, monkeypatch):
    rows_file.append(["one"])
    write = os.write
    replies = iter([2, OSError("No space left on device")])

    def full(fd, data):
        reply = next(replies)
        if isinstance(reply, OSError):
            raise reply
        return write(fd, data[:reply])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            rows_file.append(["two"])
    assert rows_file.append(["three"])[0] == 4
    assert rows_path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize("rows", [list, lambda elements: pd.DataFrame({"n": elements})], ids=["list", "frame"])
def test_an_element_that_cannot_be_written_takes_back_those_before_it(rows_file, rows_path, rows):
    class Mute:
        def __str__(self):
            raise ValueError("mute")

    rows_file.append(["one"])
    with pytest.raises(ValueError, match="mute"):
        rows_file.append(rows(["x" * WRITE_SIZE] * 3 + [Mute()]))
    assert rows_file.append(["three"])[0] == 4
    assert rows_path.read_bytes() == b"one\nthree\n"
