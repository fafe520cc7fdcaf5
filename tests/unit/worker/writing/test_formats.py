"""Rows as CSV and as JSON lines, as one worker process writes them."""

import datetime as dt
import json
import os

import numpy as np
import pandas as pd
import pytest

from airflow_prs.run_folder.layout import Layout
from airflow_prs.store.memory import MemoryStore
from airflow_prs.worker.writing.formats import make_writer
from airflow_prs.worker.writing.rows import BadResultError


@pytest.fixture
def layout():
    return Layout(MemoryStore())


@pytest.fixture
def written(layout):
    """Give the text that a format makes of elements; each writer of a test is a process, all share one layout."""

    def write(elements, name, to_csv=None):
        parts = []
        writer = make_writer({"format": name, "to_csv": to_csv}, layout.propose)
        writer(elements, lambda data: parts.append(bytes(data)))
        return b"".join(parts).decode()

    return write


@pytest.fixture
def header(layout):
    return lambda: json.loads(layout.newest().content)["header"]


def test_csv_rows_have_commas_and_the_header_stands_apart(written, header):
    assert written(pd.DataFrame({"a": [1, 2], "b": ["x", None]}), "csv") == "1,x\n2,\n"
    assert header() == "a,b\n"


def test_columns_in_another_order_are_put_in_order(written):
    written(pd.DataFrame({"a": [1], "b": [2]}), "csv")
    assert written(pd.DataFrame({"b": [4], "a": [3]}), "csv") == "3,4\n"


def test_a_missing_column_is_named(written):
    written(pd.DataFrame({"a": [1], "b": [2]}), "csv")
    with pytest.raises(BadResultError, match=r"without the column 'b'.*first one that returned rows: 'a', 'b'"):
        written(pd.DataFrame({"a": [1]}), "csv")


def test_the_columns_of_a_data_frame_without_rows_hold_until_there_are_rows(written, header):
    assert written(pd.DataFrame({"z": []}), "csv") == ""
    assert header() == "z\n"
    written(pd.DataFrame({"a": [1]}), "csv")
    assert header() == "a\n"


def test_dicts_are_rows_of_csv(written, header):
    assert written([{"a": 1, "b": "x"}, {"b": "y", "a": 2}], "csv") == "1,x\n2,y\n"
    assert header() == "a,b\n"


def test_whole_numbers_in_dicts_are_not_rounded_in_csv(written):
    rows = [{"id": 2**60 + 1, "f": 0.5}, {"id": None, "f": 2**53 + 1}, {"id": 1, "f": None}]
    assert written(rows, "csv") == "1152921504606846977,0.5\n,9007199254740993\n1,\n"


def test_elements_that_are_no_rows_of_csv_are_refused(written):
    with pytest.raises(BadResultError, match=r"element 1 of what run.. returned is of type str; for append_row_format"):
        written([{"a": 1}, "b"], "csv")


def test_what_the_settings_list_replaces_the_defaults_of_text(written, header):
    frame = pd.DataFrame({"a": [1.5], "b": [None]}, index=[7])
    assert written(frame, "text", {"sep": ";", "index": True, "na_rep": "-", "decimal": ","}) == "7;1,5;-\n"
    assert header() == ";a;b\n"


def test_a_list_is_written_as_lines_whatever_the_settings_say_of_data_frames(written):
    assert written(["a", 1], "text", {"sep": ";"}) == "a\n1\n"


def test_chosen_columns_are_written_alone(written, header):
    assert written(pd.DataFrame({"a": [1], "b": [2]}), "csv", {"columns": ["b"], "header": ["B"]}) == "2\n"
    assert header() == "B\n"


def test_without_a_header_columns_of_text_may_differ(written, layout):
    written(pd.DataFrame({"a": [1]}), "text", {"header": False})
    assert written(pd.DataFrame({"b": [1]}), "text", {"header": False}) == "1\n"
    assert layout.newest().number == -1


@pytest.mark.parametrize(
    ("element", "line"),
    [
        ("ä\n", '"ä\\n"'),
        (1, "1"),
        (None, "null"),
        ({"a": [1, {"b": 0.1}]}, '{"a":[1,{"b":0.1}]}'),
        (np.float32(0.5), "0.5"),
        ({"n": np.arange(2)}, '{"n":[0,1]}'),
        (dt.date(2024, 2, 29), '"2024-02-29"'),
        (pd.Timestamp("2024-02-29 12:00", tz="UTC"), '"2024-02-29T12:00:00+00:00"'),
        (pd.NaT, "null"),
        (np.datetime64("NaT"), "null"),
        ({"t": np.array(["2026-01-31", "NaT"], "datetime64[D]")}, '{"t":["2026-01-31",null]}'),
        (os.fsdecode(b"caf\xe9"), '"caf\\udce9"'),
        (float("nan"), "null"),
        (
            {"a": [float("nan"), {"b": (0.5, float("nan"))}], "c": float("nan")},
            '{"a":[null,{"b":[0.5,null]}],"c":null}',
        ),
        (np.array([[0.5, np.nan]]), "[[0.5,null]]"),
        (
            {"v": np.array([np.nan, 1], "float32"), "n": np.float32("nan"), "t": pd.NaT},
            '{"v":[null,1.0],"n":null,"t":null}',
        ),
    ],
)
def test_an_element_is_a_json_value(written, element, line):
    assert written([element], "jsonl") == line + "\n"


@pytest.mark.parametrize("element", [object(), float("inf"), [-np.inf, np.nan], {"a": {1, 2}}, {(1, 2): 3}])
def test_an_element_that_is_no_json_value_is_named(written, element):
    with pytest.raises(BadResultError, match=r"element 1 of what run\(\) returned, .* is not a JSON value: "):
        written(["a", element], "jsonl")


def test_a_row_is_an_object_with_null_for_what_is_missing(written):
    frame = pd.DataFrame(
        {
            "f": [0.1 + 0.2, float("nan")],
            "i": pd.array([2**60, None], dtype="Int64"),
            "t": pd.to_datetime(["2024-01-01 10:00", None]),
            "s": ["ä", None],
            "o": [[1, 2], {"k": "v"}],
            "c": pd.Categorical(["x", None]),
            "b": [True, False],
        }
    )
    first, second = map(json.loads, written(frame, "jsonl").splitlines())
    assert first == {
        "f": 0.1 + 0.2,
        "i": 2**60,
        "t": "2024-01-01T10:00:00",
        "s": "ä",
        "o": [1, 2],
        "c": "x",
        "b": True,
    }
    assert second == {"f": None, "i": None, "t": None, "s": None, "o": {"k": "v"}, "c": None, "b": False}


def test_the_column_that_json_cannot_hold_is_named(written):
    with pytest.raises(BadResultError, match="column 'x' holds inf in row 1"):
        written(pd.DataFrame({"a": [1, 2], "x": [0.5, float("inf")]}), "jsonl")


def test_nan_inside_of_a_cell_is_null(written):
    frame = pd.DataFrame({"v": [np.array([0.5, np.nan]), [np.nan], {"a": np.nan}], "x": [1.5, np.nan, 2]})
    rows = [json.loads(line) for line in written(frame, "jsonl").splitlines()]
    assert rows == [{"v": [0.5, None], "x": 1.5}, {"v": [None], "x": None}, {"v": {"a": None}, "x": 2}]


def test_two_columns_of_one_name_are_refused(written):
    with pytest.raises(BadResultError, match="two columns 'a'"):
        written(pd.DataFrame([[1, 2]], columns=["a", "a"]), "jsonl")


def test_a_process_asks_for_the_columns_once(layout):
    asked = []

    def ask(number, content):
        asked.append(number)
        return layout.propose(number, content)

    writer = make_writer({"format": "csv", "to_csv": None}, ask)
    for frame in (pd.DataFrame({"a": []}), pd.DataFrame({"a": []}), *[pd.DataFrame({"a": [1]})] * 3):
        writer(frame, lambda data: None)
    assert asked == [0, 1]


def test_columns_that_are_missing_are_named_also_where_the_names_in_the_header_are_too_few(written):
    written(pd.DataFrame({"a": [1], "b": [2]}), "csv", {"header": ["A", "B"]})
    with pytest.raises(BadResultError, match="without the column 'b'"):
        written(pd.DataFrame({"a": [1]}), "csv", {"header": ["A", "B"]})
    assert written(pd.DataFrame({"a": []}), "csv", {"header": ["A", "B"]}) == ""
