"""What pandas reads from files in one piece is what all mini-batches together give: values and types."""

import gzip
import json
import re
from datetime import date, datetime, timezone
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pyarrow import feather

from airflow_prs.config.datasets import TabularDataset, dataset_from_spec
from airflow_prs.errors import ConfigError, InputError
from airflow_prs.worker.reading.load_errors import LoadError
from tests.table_plans import KINDS
from tests.tables import as_read_in_one_piece, cut, exact, mini_batches, together

in_one_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

words = st.sampled_from(["x", "007", "1.50", "é", "5%", "a b", "True ", "1_0", "0x1F", "NAN", "1e", "+-7"])
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["1.0", " 7", "1e5"]),
)
values = {
    "whole numbers": st.integers(-(2**63), 2**63 - 1).map(str),
    "large numbers": st.integers(2**63, 2**64 - 1).map(str) | st.integers(0, 9).map(str),
    "huge numbers": st.sampled_from([str(2**64), str(-(2**63) - 1)]) | st.integers(-9, 9).map(str),
    "floats": st.floats(allow_nan=False).map(repr),
    "numbers as few write them": st.sampled_from(["+7", " 7", "7 ", "007", "-0", "+.5", "1.", "1E+05"]),
    "infinity": st.sampled_from(["inf", "-Infinity", "1e999", "2.5"]),
    "truth": st.sampled_from(["True", "FALSE", "tRUE"]),
    "numbers and truth": st.sampled_from(["True", "0", "1.5"]),
    "words and numbers": words | numbers,
    "nothing": st.nothing(),
}
missing = st.sampled_from(["", "NA", "null"])


@st.composite
def columns(draw, rows):
    """Draw a column in which the rare values may stand anywhere, so that most mini-batches know nothing of them."""
    kind = draw(st.sampled_from(sorted(values)))
    common = draw(st.just("1") if kind not in {"nothing", "truth"} else st.sampled_from(["", "True"]))
    cell = st.just(common) | values[kind]
    if kind not in {"large numbers", "huge numbers"}:  # where column_types goes a way of its own
        cell |= missing
    return draw(st.lists(cell, min_size=rows, max_size=rows))


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 12))
    cells = [[str(row) for row in range(rows)]] + [draw(columns(rows)) for _ in range(draw(st.integers(1, 3)))]
    return [["a", "b", "c", "d"][: len(cells)], *map(list, zip(*cells, strict=True))]


def write(path, rows, encoding="utf-8"):
    pd.DataFrame(rows).to_csv(path, header=False, index=False, encoding=encoding)


@in_one_folder
@given(tables())
def test_a_file(tmp_path, table):
    path = tmp_path / "t.csv"
    write(path, table)
    whole = as_read_in_one_piece(path.read_bytes())
    for part in mini_batches(TabularDataset.from_delimited_files(str(path)), tmp_path):
        assert part.dtypes.to_dict() == whole.dtypes.to_dict()
    assert_frame_equal(together(TabularDataset.from_delimited_files(str(path)), tmp_path), whole)


@in_one_folder
@given(tables(), st.integers(0, 12))
def test_several_files_without_headers(tmp_path, table, at):
    _, *rows = table
    first, second = rows[: max(1, at)], rows[max(1, at) :]
    write(tmp_path / "1.csv", first)
    write(tmp_path / "2.csv", second)
    text = (tmp_path / "1.csv").read_text() + ((tmp_path / "2.csv").read_text() if second else "")
    whole = as_read_in_one_piece(text.encode(), header=None)
    dataset = TabularDataset.from_delimited_files([str(tmp_path / "1.csv"), str(tmp_path / "2.csv")], header=False)
    assert_frame_equal(together(dataset, tmp_path), whole)


def test_files_with_headers_of_their_own(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,x\n2,y\n3,z\n")
    (tmp_path / "2.csv").write_text("c,a\nTrue,4\n")
    dataset = TabularDataset.from_delimited_files([str(tmp_path / "1.csv"), str(tmp_path / "2.csv")], header="each")
    whole = pd.concat([pd.read_csv(path) for path in dataset.path], ignore_index=True)
    assert_frame_equal(together(dataset, tmp_path), whole)


def test_chosen_columns_stand_in_the_order_in_which_they_were_chosen(tmp_path):
    (tmp_path / "1.csv").write_text("a,b,c\n1,x,\n2,y,5\n3,z,6\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), columns=["c", "a"])
    assert_frame_equal(together(dataset, tmp_path), pd.read_csv(tmp_path / "1.csv")[["c", "a"]])


def test_a_file_without_any_of_the_chosen_columns_keeps_its_rows(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "2.csv").write_text("c\n3\n")
    files = [str(tmp_path / "1.csv"), str(tmp_path / "2.csv")]
    dataset = TabularDataset.from_delimited_files(files, header="each", columns=["c"])
    assert_frame_equal(together(dataset, tmp_path), pd.DataFrame({"c": [None, None, 3.0]}))


def test_a_first_record_that_is_too_long_is_an_error_whatever_columns_are_chosen(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\nx,1,2\ny,3,4\n")
    for chosen in (None, ["a"]):
        dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), columns=chosen)
        with pytest.raises(LoadError, match=r"1\.csv: line 2 cannot be read: .*Length of header"):
            mini_batches(dataset, tmp_path)


def test_columns_without_names_are_chosen_by_number(tmp_path):
    (tmp_path / "1.csv").write_text("1,x,7\n2,y,8\n3,z,9\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), header=False, columns=[2, 1])
    assert_frame_equal(together(dataset, tmp_path), pd.read_csv(tmp_path / "1.csv", header=None)[[2, 1]])


def test_a_column_that_is_not_there_is_an_error_that_names_it(tmp_path):
    (tmp_path / "1.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"'t' has no column 'b'; it has the columns \['a'\]"):
        together(TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), columns=["b"]), tmp_path)


def test_types_that_are_given_hold(tmp_path):
    (tmp_path / "1.csv").write_text("zip,n\n01234,1\n56789,2\n00000,3\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), dtypes={"zip": "str", "n": "float32"})
    whole = pd.read_csv(tmp_path / "1.csv", dtype={"zip": "str", "n": "float32"})
    assert_frame_equal(together(dataset, tmp_path), whole)


def test_a_type_that_pandas_does_not_know_is_an_error_that_names_it(tmp_path):
    (tmp_path / "1.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match="dtypes of 't' has 'number' for 'a'"):
        together(TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), dtypes={"a": "number"}), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1.csv", "k,d\n1,2026-01-02\n2,\n3,2026-01-02T03:04:05.5\n"),
        ("1.jsonl", '{"k": 1, "d": "2026-01-02"}\n{"k": 2}\n{"k": 3, "d": "2026-01-02T03:04:05.5"}\n'),
    ],
)
@pytest.mark.parametrize("dtype", ["datetime64[ns]", "datetime64[ms]", "datetime64[us, Europe/Berlin]"])
def test_moments_are_read_where_their_type_is_given(tmp_path, name, text, dtype):
    (tmp_path / name).write_text(text)
    dataset = KINDS[name[2:]](str(tmp_path / name), dtypes={"d": dtype})
    days = pd.Series(pd.to_datetime(["2026-01-02", None, "2026-01-02T03:04:05.5"], format="ISO8601"))
    days = (days.dt.tz_localize("Europe/Berlin") if "Berlin" in dtype else days).astype(dtype)
    for rows in (1, 3):
        assert_frame_equal(together(dataset, tmp_path, f"{rows} rows"), pd.DataFrame({"k": [1, 2, 3], "d": days}))


@pytest.mark.parametrize("day", ["13/02/2026", "now", "1", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5"])
def test_a_moment_whose_format_would_have_to_be_guessed_is_an_error_that_says_what_to_do(tmp_path, day):
    (tmp_path / "1.csv").write_text(f"a,d\n1,2026-01-02\n2,{day}\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), dtypes={"d": "datetime64[s]"})
    problem = rf"'{day}' in the column 'd' is not read as datetime64\[s\]; allowed"
    with pytest.raises(LoadError, match=rf"1\.csv: line 3 cannot be read: ValueError: {problem}"):
        mini_batches(dataset, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "dtype"),
    [
        ("1.csv", "v,a\n1,\n", "bool"),
        ("1.csv", "v,a\n1,x\n", "int64"),
        ("1.csv", "v,a\n1,300\n", "Int8"),
        ("1.csv", "v,a\n1,1500-01-01\n", "datetime64[ns]"),
        ("1.csv", "v\n1\n", "bool"),
        ("1.csv", "v\n1\n", "uint8"),
        ("1.jsonl", '{"a": null}\n', "bool"),
        ("1.jsonl", '{"v": 1}\n', "bool"),
        ("1.jsonl", '{"a": "false"}\n', "bool"),
        ("1.jsonl", '{"a": 1.5}\n', "Int64"),
        ("1.jsonl", '{"a": 300}\n', "int8"),
    ],
)
def test_a_value_that_a_given_type_cannot_hold_is_an_error_that_names_the_column(tmp_path, name, text, dtype):
    (tmp_path / name).write_text(text)
    other = "v,a\n2,1\n" if name == "1.csv" else '{"a": 1}\n{"v": 1}\n'
    (tmp_path / f"2{name[1:]}").write_text(other.replace("2,1", "2,2026-01-01" if "date" in dtype else "2,True"))
    options = {"header": "each"} if name == "1.csv" else {}
    dataset = KINDS[name[2:]](f"{tmp_path}/*{name[1:]}", dtypes={"a": dtype}, **options)
    reader, pieces = cut(dataset, tmp_path)
    problem = rf"(has values that the type|is not read as) {dtype[:4]}"
    with pytest.raises(LoadError, match=rf"{name}.*the column 'a' {problem}"):
        reader.load(*pieces[0])


def test_truth_values_of_json_are_read_where_their_type_is_given(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"a": true}\n{"a": 0}\n{"a": false}\n')
    dataset = TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl"), dtypes={"a": "bool"})
    assert_frame_equal(together(dataset, tmp_path), pd.DataFrame({"a": [True, False, False]}))


def test_the_type_of_a_column_that_is_not_chosen_does_not_matter_where_all_records_are_short(tmp_path):
    (tmp_path / "1.csv").write_text("a,b,c\n1,2,3\n4,x\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), columns=["c"], dtypes={"b": "float64"})
    assert_frame_equal(together(dataset, tmp_path, "1 rows"), pd.DataFrame({"c": [3.0, None]}))


@pytest.mark.parametrize(
    ("dtype", "problem"),
    [
        ("datetime64", r".*datetime64\[ns\]"),
        ("timedelta64[ns]", ".*not supported"),
        ("interval", ""),
        ("timestamp[us][pyarrow]", ".*allowed: datetime64"),
        ("date32[pyarrow]", ".*allowed: datetime64"),
        ("category", "allowed: a type that is the same in all mini-batches"),
    ],
)
def test_a_type_that_mini_batches_cannot_have_is_an_error_that_names_it(tmp_path, dtype, problem):
    (tmp_path / "1.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match=rf"dtypes of 't' has '{re.escape(dtype)}' for 'a'; {problem}"):
        together(TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), dtypes={"a": dtype}), tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "options", "there"),
    [
        ("1.csv", "a,b\n1,2\n", {}, r"\['a', 'b'\]"),
        ("1.csv", "a,b\n1,2\n", {"header": "each"}, r"\['a', 'b'\]"),
        ("1.csv", "1,2\n", {"header": False}, r"\[0, 1\]"),
        ("1.jsonl", '{"a": 1}\n{"b": 2}\n', {}, r"\['a', 'b'\]"),
    ],
)
def test_a_type_for_a_column_that_no_file_has_is_an_error_that_names_it(tmp_path, name, text, options, there):
    (tmp_path / name).write_text(text)
    dataset = KINDS[name[2:]](str(tmp_path / name), dtypes={"zip": "str"}, **options)
    for source in (dataset, dataset.partition_by(["a"])) if options.get("header", True) else (dataset,):
        with pytest.raises(InputError, match=rf"dtypes of 't' names 'zip', but its files have the columns {there}"):
            mini_batches(source, tmp_path)


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
def test_missing_text_stays_missing_where_text_has_no_type_of_its_own(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,x\n2,\n")
    (tmp_path / "2.csv").write_text("a\n3\n")
    (tmp_path / "1.jsonl").write_text('{"b": "x"}\n{"a": "y"}\n')
    files = [str(tmp_path / "1.csv"), str(tmp_path / "2.csv")]
    (tmp_path / "k=__HIVE_DEFAULT_PARTITION__").mkdir()
    (tmp_path / "k=__HIVE_DEFAULT_PARTITION__" / "3.csv").write_text("a\n1\n")
    for dataset, column in (
        (TabularDataset.from_delimited_files(files, header="each"), "b"),
        (TabularDataset.from_delimited_files(files, header="each", dtypes={"b": "str"}), "b"),
        (TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), "b"),
        (TabularDataset.from_delimited_files(str(tmp_path / "k=*" / "*.csv")), "k"),
    ):
        reader, pieces = cut(dataset, tmp_path, "1 rows")
        with pd.option_context("future.infer_string", False):
            frames = [reader.load(*piece) for piece in pieces]
        words = [word for frame in frames for word in frame[column] if not pd.isna(word)]
        assert words == (["x"] if column == "b" else [])
        assert {str(frame[column].dtype) for frame in frames} == {"object"}


def test_comments_are_left_out(tmp_path):
    (tmp_path / "1.csv").write_text('# "a\na,b\n1,x#y\n# 2,y\n3,"#z"\n4,\n')
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), comment="#")
    assert_frame_equal(together(dataset, tmp_path, "1 rows"), pd.read_csv(tmp_path / "1.csv", comment="#"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp037"])
@pytest.mark.parametrize("header", [True, "each", False])
def test_encodings(tmp_path, encoding, header):
    (tmp_path / "1.csv").write_bytes("é,b\n1,x\n2,ü\n3,y\n".encode(encoding))
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), header=header, encoding=encoding)
    whole = pd.read_csv(tmp_path / "1.csv", encoding=encoding, header=None if header is False else 0)
    assert_frame_equal(together(dataset, tmp_path), whole)


@pytest.mark.parametrize("header", [True, "each"])
@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_packed_files_whatever_their_names(tmp_path, compression, header):
    pd.DataFrame({"a": [1, None], "b": ["x", "y"]}).to_csv(tmp_path / "1", index=False, compression=compression)
    pd.DataFrame({"a": [2, 3], "b": ["5", None]}).to_csv(tmp_path / "2", index=False)
    dataset = TabularDataset.from_delimited_files([str(tmp_path / "1"), str(tmp_path / "2")], header=header)
    parts = mini_batches(dataset, tmp_path, "1 rows")
    assert [len(part) for part in parts] == [2, 1, 1]
    whole = pd.DataFrame({"a": [1, None, 2, 3], "b": ["x", "y", "5", None]})
    assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


ids = st.builds(int.__add__, st.sampled_from([2**53, -(2**53), 2**63, -(2**63), 2**64]), st.integers(-2, 2))

json_values = {
    "ids": ids,
    "whole numbers": st.integers(-(2**70), 2**70),
    "small numbers": st.integers(-9, 9),
    "floats": st.floats(allow_nan=False, allow_infinity=False),
    "truth": st.booleans(),
    "words": st.text(max_size=3),
    "nested": st.lists(st.integers(0, 9), max_size=2) | st.dictionaries(st.sampled_from("xy"), st.none(), max_size=2),
    "nothing": st.none(),
}
json_value = st.sampled_from(sorted(json_values)).flatmap(json_values.__getitem__)
same_kind = st.sampled_from(sorted(json_values)).flatmap(
    lambda kind: st.lists(json_values[kind] | st.none(), max_size=9)
)


@in_one_folder
@given(st.lists(st.dictionaries(st.sampled_from("abc"), json_value, min_size=1), min_size=1, max_size=9), same_kind)
def test_json_lines(tmp_path, records, more):
    records = records + [{"d": value} for value in more]
    (tmp_path / "1.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    whole = pd.DataFrame([json.loads(json.dumps(record)) for record in records])
    for name in whole.columns:
        found = [record[name] for record in records if record.get(name) is not None]
        whole[name] = exact(whole[name], found)
    assert_frame_equal(together(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path), whole)


cells = {
    "ids": ids.map(str),
    "ids and missing ones": ids.map(str) | missing,
    "ids within int64": st.integers(2**53 - 1, 2**53 + 2).map(str) | missing,
    "small numbers": st.sampled_from(["1", "+7", " 8", "-1", "007"]) | missing,
    "floats": st.sampled_from(["1.0", "2.5", "1e3"]) | missing,
    "truth": st.sampled_from(["True", "FALSE"]),
    "text": st.sampled_from(["x", "é", '"a,b"', '"a\nb"', '"c""d"', '""']) | missing,
}
odd_records = st.sampled_from(["5", "x", "", "(2 rows)", "\x1a", '"', "1,2,3,4", ",", "9007199254740993", '"5"'])


@st.composite
def odd_files(draw):
    """Draw files of three columns in which records are short or long, mostly the first or the last one."""
    kinds = draw(st.lists(st.sampled_from(sorted(cells)), min_size=3, max_size=3))
    records = [",".join(row) for row in draw(st.lists(st.tuples(*map(cells.__getitem__, kinds)), max_size=9))]
    for place in draw(st.lists(st.sampled_from([0, len(records) // 2, len(records)]), max_size=2)):
        records.insert(place, draw(odd_records))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(["a,b,c", *records]) + draw(st.sampled_from(["", end]))


@in_one_folder
@given(odd_files(), st.integers(1, 4), st.sampled_from([None, ["b"], ["c", "a"]]))
def test_a_file_with_short_and_odd_records(tmp_path, text, rows, chosen):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    dataset = TabularDataset.from_delimited_files(str(path), columns=chosen)
    try:
        parts = mini_batches(dataset, tmp_path, f"{rows} rows")
    except (InputError, LoadError) as error:
        assert str(path) in str(error)  # noqa: PT017
        assert re.search(r'^("|1,2,3,4)\r?$', text, re.MULTILINE), error  # noqa: PT017
        return
    whole = as_read_in_one_piece(path.read_bytes(), usecols=chosen, index_col=False)
    whole = whole if chosen is None else whole[chosen]
    assert all(part.dtypes.to_dict() == whole.dtypes.to_dict() for part in parts)
    assert_frame_equal(pd.concat([whole[:0], *parts], ignore_index=True) if parts else whole[:0], whole)


@pytest.mark.parametrize("absent", ["{}", '{"a": null}', '{"a": NaN}'])
@pytest.mark.parametrize(
    ("number", "dtype"), [(2**53, "float64"), (2**53 + 1, "Int64"), (1 - 2**63, "Int64"), (2**64 - 1, "UInt64")]
)
def test_whole_numbers_in_json_lines_are_never_rounded_beside_missing_ones(tmp_path, absent, number, dtype):
    (tmp_path / "1.jsonl").write_text(f'{{"a": {number}}}\n{{"a": 1}}\n{absent}\n')
    parts = mini_batches(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path, "1 rows")
    assert [str(part["a"].dtype) for part in parts] == [dtype] * 3
    assert [int(part["a"].iloc[0]) for part in parts[:2]] == [number, 1]
    assert parts[2]["a"].isna().all()


def test_a_line_that_is_no_json_costs_its_mini_batch_alone(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": \n{"a": 4}\n')
    with pytest.raises(LoadError, match=r"1.jsonl: line 3 is not valid JSON: Expecting value at character 6"):
        mini_batches(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path)


def test_chosen_columns_of_json_lines(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"a": 1, "b": "x"}\r\n\r\n{"b": "y", "c": []}\r\n')
    dataset = TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl"), columns=["b", "a"], dtypes={"a": "Int64"})
    whole = pd.DataFrame({"b": ["x", "y"], "a": pd.Series([1, None], dtype="Int64")})
    assert_frame_equal(together(dataset, tmp_path, "1 rows"), whole)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_packed_json_lines_are_one_mini_batch(tmp_path, encoding):
    (tmp_path / "1").write_bytes(gzip.compress('{"é": "ü"}\n{"é": "x"}\n'.encode(encoding)))
    (part,) = mini_batches(TabularDataset.from_json_lines_files(str(tmp_path / "1"), encoding), tmp_path, "1 rows")
    assert part.to_dict("list") == {"é": ["ü", "x"]}


@pytest.fixture
def table():
    """Nulls at one end only, and types that pandas has no other word for."""
    days = pd.date_range("2026-01-01", periods=9)
    return pa.table(
        {
            "whole": [None, *range(8)],
            "truth": [True, None, *[False] * 7],
            "day": pa.array(days.date, pa.date32()),
            "moment": pa.array(days, pa.timestamp("us", "UTC")),
            "words": ["x", None, *"abcdefg"],
            "nested": [{"a": [row]} for row in range(9)],
            "small": pa.array(range(9), pa.int8()),
        }
    )


def write_parquet(table, path):
    pq.write_table(table, path, row_group_size=4)
    return TabularDataset.from_parquet_files


def write_feather(table, path):
    feather.write_feather(table, str(path), chunksize=4)
    return TabularDataset.from_arrow_files


def write_stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)
    return TabularDataset.from_arrow_files


binary = pytest.mark.parametrize("write_table", [write_parquet, write_feather, write_stream])


@binary
def test_binary_files(tmp_path, table, write_table):
    dataset = write_table(table, tmp_path / "1")(str(tmp_path / "1"))
    whole = table.to_pandas()
    for part in mini_batches(dataset, tmp_path):
        assert part.dtypes.to_dict() == whole.dtypes.to_dict()
    assert_frame_equal(together(dataset, tmp_path), whole)


@binary
def test_chosen_columns_of_binary_files(tmp_path, table, write_table):
    dataset = write_table(table, tmp_path / "1")(str(tmp_path / "1"), columns=["words", "whole"])
    assert_frame_equal(together(dataset, tmp_path), table.to_pandas()[["words", "whole"]])


@pytest.mark.parametrize("columns", [None, ["day"]])
@pytest.mark.parametrize("rows_filter", [[("whole", ">", 2)], [[("small", "in", [0, 8])], [("words", "==", "c")]]])
def test_a_filter_leaves_rows_out_before_they_are_counted(tmp_path, table, columns, rows_filter):
    write_parquet(table, tmp_path / "1")
    dataset = TabularDataset.from_parquet_files(str(tmp_path / "1"), columns=columns, filter=rows_filter)
    whole = pd.read_parquet(tmp_path / "1", columns=columns, filters=rows_filter)
    assert_frame_equal(together(dataset, tmp_path, "2 rows"), whole, check_index_type=False)


def test_a_filter_that_lets_nothing_through_makes_no_mini_batch(tmp_path, table):
    write_parquet(table, tmp_path / "1")
    assert (
        mini_batches(TabularDataset.from_parquet_files(str(tmp_path / "1"), filter=[("whole", ">", 99)]), tmp_path)
        == []
    )


def test_a_filter_that_does_not_fit_is_an_error_that_names_it(tmp_path, table):
    write_parquet(table, tmp_path / "1")
    with pytest.raises(InputError, match=r"the filter \[\['gone', '=', 1\]\] of 't' does not fit .*gone"):
        mini_batches(TabularDataset.from_parquet_files(str(tmp_path / "1"), filter=[("gone", "=", 1)]), tmp_path)


moment = datetime(2026, 1, 3, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("condition", "is_wanted"),
    [
        (("truth", "=", True), lambda row: row["truth"] is True),
        (("truth", "in", [False]), lambda row: row["truth"] is False),
        (("truth", "=", None), lambda row: row["truth"] is None),
        (("words", "!=", None), lambda row: row["words"] is not None),
        (("whole", "in", [None, 7]), lambda row: row["whole"] in {None, 7}),
        (("day", ">=", date(2026, 1, 5)), lambda row: row["day"] >= date(2026, 1, 5)),
        (("day", "in", {date(2026, 1, 5)}), lambda row: row["day"] == date(2026, 1, 5)),
        (("day", "<", pd.Timestamp("2026-01-05")), lambda row: row["day"] < date(2026, 1, 5)),
        (("moment", "==", moment), lambda row: row["moment"] == moment),
        (("moment", ">", pd.Timestamp("2026-01-03 01:00", tz="Europe/Berlin")), lambda row: row["moment"] > moment),
        (("small", "not in", [1, 2]), lambda row: row["small"] not in {1, 2}),
        (("price", "=", Decimal("0.25")), lambda row: row["price"] == Decimal("0.25")),
    ],
)
def test_a_filter_takes_every_value_that_has_an_order(tmp_path, table, condition, is_wanted):
    table = table.append_column("price", pa.array([Decimal(row) / 4 for row in range(9)], pa.decimal128(9, 2)))
    write_parquet(table, tmp_path / "1")
    dataset = TabularDataset.from_parquet_files(str(tmp_path / "1"), columns=["small"], filter=[condition])
    dataset = dataset_from_spec(json.loads(json.dumps(dataset.to_spec())), {})
    wanted = [row["small"] for row in table.to_pylist() if is_wanted(row)]
    assert together(dataset, tmp_path, "2 rows")["small"].tolist() == wanted


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (("a", ">", None), "filter on 'a' with '>' has None; allowed: text, a number"),
        (("a", "=", b"x"), "filter on 'a' with '=' has b'x'; allowed: .*, or None for what is missing"),
        (("a", "=", [1]), r"filter on 'a' with '=' has \[1\]; allowed"),
        (("a", "=", float("nan")), "filter on 'a' with '=' has nan; allowed"),
        (("a", "=", pd.NaT), "filter on 'a' with '=' has NaT; allowed"),
        (("a", "=", pd.Timestamp(1)), r"has Timestamp\(.*\); allowed: .*to the microsecond"),
        (("a", "in", "xy"), "filter on 'a' with 'in' has 'xy'; allowed: a list of at least one of these"),
        (("a", "not in", []), r"filter on 'a' with 'not in' has \[\]; allowed: a list"),
    ],
)
def test_a_wrong_value_in_a_filter_is_named(condition, problem):
    with pytest.raises(ConfigError, match=problem):
        TabularDataset.from_parquet_files("a", filter=[condition])


@pytest.mark.parametrize("operator", [">", "in"])
def test_a_moment_without_a_time_zone_does_not_fit_one_with(tmp_path, table, operator):
    write_parquet(table, tmp_path / "1")
    moment = pd.Timestamp("2026-01-01")
    condition = ("moment", operator, [moment.tz_localize("UTC"), moment] if operator == "in" else moment)
    dataset = TabularDataset.from_parquet_files(str(tmp_path / "1"), filter=[condition])
    with pytest.raises(InputError, match=r"the filter .* of 't' does not fit .*is of type timestamp\[us, tz=UTC\]"):
        mini_batches(dataset, tmp_path)


@pytest.mark.parametrize("rows_filter", [[], "a > 1", [("a", ">")], [("a", "~", 1)], [[("a",)]]])
def test_a_wrong_filter_is_named(rows_filter):
    with pytest.raises(ConfigError, match=r"filter is .*allowed: conditions that all hold"):
        TabularDataset.from_parquet_files("a", filter=rows_filter)


def test_what_is_no_arrow_file_is_named(tmp_path):
    (tmp_path / "1").write_bytes(b"no arrow file at all")
    with pytest.raises(InputError, match="1' cannot be read as an Arrow or Feather file"):
        mini_batches(TabularDataset.from_arrow_files(str(tmp_path / "1")), tmp_path)


def test_dropped_columns_of_an_mltable(tmp_path):
    (tmp_path / "1.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    (tmp_path / "MLTable").write_text(
        "paths: [{file: 1.csv}]\ntransformations: [{read_delimited: {delimiter: ','}}, {drop_columns: [b]}]\n"
    )
    assert_frame_equal(
        together(TabularDataset.from_mltable(tmp_path), tmp_path), pd.DataFrame({"a": [1, 4], "c": [3, 6]})
    )
