import os
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_prs.worker.writing.rows import WRITE_SIZE, BadResultError, RowsFile, elements_of, write_elements


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
    frame = pd.DataFrame({"td": pd.array([0.5, None, 7] * 50_000, "Float64"), "n": range(150_000)})
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


THIRDS = np.array([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("elements", "rows"),
    [
        (
            np.arange(6000).reshape(2, 3000),
            [f"[{' '.join(f'{n:4}' for n in row)}]" for row in (range(3000), range(3000, 6000))],
        ),
        ([THIRDS], ["[0.3333333333333333 0.6666666666666666]"]),
        ([("a", THIRDS)], ["('a', array([0.3333333333333333, 0.6666666666666666]))"]),
        (np.arange(8).reshape(2, 2, 2), ["[[0 1] [2 3]]", "[[4 5] [6 7]]"]),
        ([{"a": np.eye(2)}], ["{'a': array([[1., 0.], [0., 1.]])}"]),
        ([np.ma.array(np.zeros(2000, int), mask=[True] + [False] * 1999)], ["[--" + " 0" * 1999 + "]"]),
        ([Path("a\nb"), "c\n d"], ["a", "b", "c", " d"]),
    ],
    ids=["long", "precision", "in a tuple", "matrix", "in a dict", "masked", "text"],
)
def test_an_array_is_written_complete_and_on_one_line(elements, rows):
    assert text_of(elements).decode().splitlines() == rows


@pytest.mark.parametrize("legacy", [False, "1.13", "1.21"])
def test_options_that_a_script_has_set_stay_its_own(legacy):
    with np.printoptions(threshold=5, precision=2, legacy=legacy):
        before = np.get_printoptions()
        (numbers,) = re.findall(r"\S+", text_of([np.array([1 / 3] * 20)]).decode().replace("[", "").replace("]", ""))[
            :1
        ]
        assert float(numbers) == 1 / 3
        assert np.get_printoptions() == before


def test_options_are_those_of_the_script_while_its_own_code_runs():
    seen = []

    class Lazy:
        def __len__(self):
            return 300

        def __iter__(self):
            for _ in range(300):
                seen.append(np.get_printoptions()["threshold"])
                yield THIRDS

    text_of(Lazy())
    assert set(seen) == {np.get_printoptions()["threshold"]}


FRAME = pd.DataFrame({"a": range(100)})


@pytest.mark.parametrize(
    ("elements", "name"),
    [
        (["x", FRAME], "pandas.DataFrame"),
        (pd.Series([1, FRAME]), "pandas.DataFrame"),
        (["x", FRAME["a"]], "pandas.Series"),
        (["x", ("path", FRAME)], "pandas.DataFrame"),
        ([1, pa.table({"a": [1]})], "pyarrow.Table"),
        ([1, {"rows": [pa.record_batch({"a": [1]})]}], "pyarrow.RecordBatch"),
    ],
)
def test_a_table_inside_of_a_list_is_refused_with_its_type_and_a_format(elements, name):
    wanted = (
        rf"element 1 of what run\(\) returned is or holds a {name}, .*append_row_format 'csv', 'jsonl' or 'parquet'"
    )
    with pytest.raises(BadResultError, match=wanted):
        text_of(elements)


def test_arrays_in_cells_are_written_complete():
    frame = pd.DataFrame({"v": [np.arange(2000) / 3]})
    assert len(text_of(frame).split()) == 2000
    assert b"..." not in text_of(frame)


def test_a_table_in_a_cell_is_refused_with_its_column():
    with pytest.raises(BadResultError, match=r"column 'v' of what run\(\) returned holds a pandas.Series"):
        text_of(pd.DataFrame({"v": [FRAME["a"], None]}, dtype=object))


@pytest.mark.parametrize("make", [pa.table, pa.record_batch], ids=["table", "batch"])
def test_an_arrow_table_is_rows_as_a_data_frame_is(make):
    table = make({"id": [2**60 + 1, None, 3], "text": ["a", "b c", None]})
    assert text_of(elements_of(table)) == b'1152921504606846977 a\n "b c"\n3 \n'
    assert len(elements_of(table)) == 3


def test_a_table_of_another_library_is_refused_with_what_to_return():
    class DataFrame:
        def __dataframe__(self):
            return None

    with pytest.raises(
        BadResultError, match=r"returned a .*DataFrame; return the result of its to_pandas\(\) or to_arrow\(\)"
    ):
        elements_of(DataFrame())
