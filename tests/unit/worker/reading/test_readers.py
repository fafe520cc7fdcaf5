import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.worker.reading.load_errors import LoadError
from airflow_prs.worker.reading.readers import make_reader

LINES = [b"a,1\n", b"b,2\n", b'"c\nd",3\n']


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"name,value\n" + b"".join(LINES))
    return str(path)


def delimited(**options):
    given = {"separator": ",", "header": True, "encoding": "utf-8", "columns": ["name", "value"]}
    return make_reader({"name": "table", "kind": "delimited", "options": {**given, **options}})


def parquet():
    return make_reader({"name": "table", "kind": "parquet", "options": {}})


@pytest.fixture
def parquet_file(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"number": list(range(10))}), path, row_group_size=4)
    return str(path)


def test_files_are_a_list_of_paths():
    files = make_reader({"name": "files", "kind": "files", "options": {}})
    assert files.load(["/in/a.png", "/in/b c.png"], 2) == ["/in/a.png", "/in/b c.png"]


def test_a_piece_of_a_delimited_file_is_read_without_its_header(table):
    frame = delimited().load([[table, 11, 15, None]], 1)
    assert frame.to_dict("list") == {"name": ["a"], "value": [1]}


def test_a_record_may_hold_line_breaks(table):
    frame = delimited().load([[table, 19, 27, None]], 1)
    assert frame.to_dict("list") == {"name": ["c\nd"], "value": [3]}


def test_a_whole_delimited_file_has_its_header(table):
    assert list(delimited().load([[table, None, None, None]], 3)["value"]) == [1, 2, 3]


def test_pieces_stand_one_after_the_other_with_one_index(table):
    frame = delimited().load([[table, 15, 19, None], [table, 11, 15, None]], 2)
    assert list(frame["value"]) == [2, 1]
    assert list(frame.index) == [0, 1]


def test_columns_without_names_are_numbered(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a;1\n")
    frame = delimited(columns=None, header=False, separator=";").load([[str(path), 0, 4, None]], 1)
    assert frame.to_dict("list") == {0: ["a"], 1: [1]}


def test_the_types_of_columns_may_be_given(table):
    frame = delimited(dtypes={"value": "float64"}).load([[table, 11, 15, None]], 1)
    assert frame["value"].dtype == np.float64


def test_text_is_decoded_as_the_option_says(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("é,1\n".encode("latin-1"))
    assert delimited(encoding="latin-1").load([[str(path), 0, 4, None]], 1)["name"][0] == "é"


def test_floats_are_parsed_exactly(tmp_path):
    floats = [0.1 + 0.2, 1 / 3, math.pi * 1e-300, 8.41469e-07, 9007199254740993.5, 2.2250738585072014e-308]
    path = tmp_path / "floats.csv"
    path.write_text("".join(f"x,{value!r}\n" for value in floats))
    frame = delimited().load([[str(path), 0, path.stat().st_size, None]], len(floats))
    assert list(frame["value"]) == floats


@pytest.mark.parametrize(
    ("rows", "line"), [(b"a,1,x\n", 1), (b"a,1\nb,2,x\n", 2), (b'a,1\n"a,1\n', 2), (b"a,1\n\xff,1\n", 2)]
)
def test_a_broken_row_is_an_error_that_names_the_file_and_the_line(tmp_path, rows, line):
    path = tmp_path / "broken.csv"
    path.write_bytes(rows)
    with pytest.raises(LoadError, match=rf"broken.csv: line {line} (cannot be read: |is not in the encoding)"):
        delimited().load([[str(path), 0, len(rows), None]], 1)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(LoadError, match=r"gone.csv.*FileNotFoundError"):
        delimited().load([[str(tmp_path / "gone.csv"), 0, 4, None]], 1)


def test_other_rows_than_planned_are_an_error_that_says_why(table):
    with pytest.raises(LoadError, match=r"2 rows where the plan counted 1: .*read the same file differently") as raised:
        delimited().load([[table, 11, 19, None]], 1)
    assert "changed" not in str(raised.value)


def test_a_file_that_ends_too_early_is_an_error_that_says_where(table):
    with pytest.raises(LoadError, match=r"the file ends at byte 27$"):
        delimited().load([[table, 19, 90, None]], 1)


def test_a_piece_without_rows_does_not_spoil_the_types_of_the_others(table):
    frame = delimited().load([[table, 11, 11, None], [table, 11, 15, None]], 1)
    assert frame["value"].dtype == np.int64


def test_rows_inside_a_row_group_are_read(parquet_file):
    frame = parquet().load([[parquet_file, 1, 3, 1]], 2)
    assert list(frame["number"]) == [5, 6]
    assert list(frame.index) == [0, 1]


def test_row_groups_stand_one_after_the_other(parquet_file):
    frame = parquet().load([[parquet_file, None, None, 1], [parquet_file, None, None, 2]], 6)
    assert list(frame["number"]) == [4, 5, 6, 7, 8, 9]
    assert list(frame.index) == list(range(6))


def test_a_whole_parquet_file_is_read(parquet_file):
    assert len(parquet().load([[parquet_file, None, None, None]], 10)) == 10


def test_a_row_group_is_read_once_for_all_that_is_cut_from_it(parquet_file):
    reader = parquet()
    first = reader.load([[parquet_file, 0, 2, 0]], 2)
    second = reader.load([[parquet_file, 2, 4, 0]], 2)
    other = reader.load([[parquet_file, 0, 2, 1]], 2)
    assert [list(frame["number"]) for frame in (first, second, other)] == [[0, 1], [2, 3], [4, 5]]


def test_many_parquet_files_are_read_in_turn(tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(9)]
    for number, path in enumerate(paths):
        pq.write_table(pa.table({"number": [number]}), path)
    reader = parquet()
    read = [reader.load([[str(path), None, None, 0]], 1)["number"][0] for path in paths * 2]
    assert read == [*range(9), *range(9)]


def test_what_is_no_parquet_file_is_an_error_that_names_it(table):
    with pytest.raises(LoadError, match=r"table.csv \(row group 0\): ArrowInvalid"):
        parquet().load([[table, None, None, 0]], 1)


def test_a_row_group_that_is_not_there_is_an_error_that_names_the_file(parquet_file):
    with pytest.raises(LoadError, match=r"table.parquet \(row group 7, rows 0 to 2\)"):
        parquet().load([[parquet_file, 0, 2, 7]], 2)


def test_fewer_rows_in_a_row_group_than_planned_are_an_error(parquet_file):
    with pytest.raises(LoadError, match="2 rows where the plan counted 4"):
        parquet().load([[parquet_file, 0, 4, 2]], 4)


TEXTS = [
    pytest.param(["x", "1", ""], id="text"),
    pytest.param(["007", "1", "2"], id="numbers"),
    pytest.param(["True", "False"], id="truths"),
    pytest.param(["18446744073709551615", "", "1"], id="large numbers and missing ones"),
    pytest.param(["", "NA"], id="missing"),
]


@pytest.mark.parametrize("values", TEXTS)
@pytest.mark.parametrize("first", TEXTS)
def test_a_column_of_text_stays_text_whatever_a_mini_batch_holds(tmp_path, first, values):
    reader = delimited(dtypes={"name": "str", "value": "str"})
    for number, texts in enumerate((first, values)):
        path = tmp_path / f"{number}.csv"
        path.write_text("".join(f"a,{text}\n" for text in texts))
        frame = reader.load([[str(path), 0, path.stat().st_size, None]], len(texts))
        told = pd.read_csv(path, names=["name", "value"], dtype=str)
        pd.testing.assert_frame_equal(frame, told)
