"""Parquet and Arrow files: one type for a column in all mini-batches, the right rows, nothing rounded."""

import datetime as dt
import itertools
from decimal import Decimal
from math import isnan

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.errors import InputError
from airflow_prs.inputs.columnar import categories
from airflow_prs.inputs.columnar.common_types import common_type
from tests.table_plans import mini_batches as planned
from tests.table_plans import partitions, table_plan, values
from tests.tables import cut, mini_batches, together

in_one_folder = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
IDS = [1234567890123456789, 1234567890123456788, None]


def parquet(path, **options):
    return TabularDataset.from_parquet_files(str(path), **options)


def write(path, table, *, rows=2, statistics=True):
    """Write a file whose format its suffix names."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows, write_statistics=statistics)
    else:
        make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)


def dataset_of(folder, suffix, **options):
    make = TabularDataset.from_parquet_files if suffix == ".parquet" else TabularDataset.from_arrow_files
    return make(f"{folder}/*{suffix}", **options)


each_suffix = pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows"])


def dtypes_of(frames):
    """Give the types that a column has in mini-batches; there should be one."""
    return [str(dtype) for dtype in dict.fromkeys(str(frame.iloc[:, 0].dtype) for frame in frames)]


# Whole numbers


@each_suffix
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        (pa.int64(), IDS, "Int64"),
        (pa.int64(), [2**53, None, -(2**53)], "float64"),
        (pa.int64(), [2**53 + 1, 1, 1, 1], "int64"),
        (pa.uint64(), [2**64 - 1, None, 1], "UInt64"),
        (pa.uint64(), [2**53, None, 1], "float64"),
        (pa.int32(), [2**31 - 1, 1, None], "float64"),
        (pa.int64(), [None, None, None], "float64"),
        (pa.bool_(), [True, True, None], "object"),
        (pa.bool_(), [True, True, False], "bool"),
    ],
)
def test_whole_numbers_and_truth_have_one_type_and_are_never_rounded(  # noqa: PLR0917
    tmp_path, suffix, statistics, kind, numbers, expected
):
    write(tmp_path / f"1{suffix}", pa.table({"id": pa.array(numbers, kind)}), rows=1, statistics=statistics)
    frames = mini_batches(dataset_of(tmp_path, suffix), tmp_path, "1 rows")
    assert dtypes_of(frames) == [expected]
    assert [None if pd.isna(value) else value for frame in frames for value in frame["id"]] == numbers


@each_suffix
def test_large_ids_are_keys_of_their_own(tmp_path, suffix):
    write(tmp_path / f"1{suffix}", pa.table({"id": pa.array(IDS), "n": pa.array([2**60 + 1, None, 2**60 + 3])}))
    dataset = dataset_of(tmp_path, suffix).partition_by(["id"])
    found = planned(table_plan(tmp_path, dataset, partition_keys=["id"]))
    assert [partition["id"] for partition in partitions(found)] == IDS
    assert [[None if pd.isna(value) else value for value in frame["id"]] for _, frame in found] == [
        [one] for one in IDS
    ]
    assert {str(frame["id"].dtype) for _, frame in found} == {str(frame["n"].dtype) for _, frame in found} == {"Int64"}
    assert [None if pd.isna(n) else n for ((n,),) in values(found, "n")] == [2**60 + 1, None, 2**60 + 3]


def test_large_whole_numbers_beside_floats_are_refused(tmp_path):
    write(tmp_path / "1.parquet", pa.table({"v": [2**60 + 1]}))
    write(tmp_path / "2.parquet", pa.table({"v": [0.5]}))
    with pytest.raises(InputError, match=r"column 'v' holds whole numbers beyond 2\^53 .* and floats in others"):
        mini_batches(parquet(tmp_path / "*.parquet"), tmp_path)
    write(tmp_path / "1.parquet", pa.table({"v": [2**53]}))
    assert together(parquet(tmp_path / "*.parquet"), tmp_path)["v"].tolist() == [2.0**53, 0.5]


@each_suffix
def test_whole_numbers_in_lists_and_structs_are_not_rounded(tmp_path, suffix):
    large = IDS[0]
    table = pa.table(
        {
            "list": pa.array([[large, None], [1]]),
            "struct": pa.array([{"id": large}, {"id": None}]),
            "both": pa.array([[{"id": large}, {"id": None}], None]),
            "map": pa.array([[("a", large), ("b", None)], []], pa.map_(pa.string(), pa.int64())),
            "small": pa.array([[1, None], [2]]),
        }
    )
    write(tmp_path / f"1{suffix}", table)
    (frame,) = mini_batches(dataset_of(tmp_path, suffix), tmp_path, "9 rows")
    assert frame["list"][0].tolist() == [large, None]
    assert frame["struct"].tolist() == [{"id": large}, {"id": None}]
    assert frame["both"][0].tolist() == [{"id": large}, {"id": None}]
    assert frame["map"][0] == [("a", large), ("b", None)]
    assert frame["small"][0].dtype == "float64"


# One type in all files

SAME = {
    "int32 and int64": (pa.array([1], pa.int32()), pa.array([2**60], pa.int64()), "int64"),
    "int8 and uint16": (pa.array([-1], pa.int8()), pa.array([2**16 - 1], pa.uint16()), "int64"),
    "int32 and float32": (pa.array([2**31 - 1], pa.int32()), pa.array([0.5], pa.float32()), "float64"),
    "nulls and int64": (pa.nulls(1), pa.array([1]), "float64"),
    "int64 and nulls": (pa.array([2**60 + 1]), pa.nulls(1), "Int64"),
    "nulls and bool": (pa.nulls(1), pa.array([True]), "object"),
    "nulls and text": (pa.nulls(1), pa.array(["x"]), None),
    "text and large text": (pa.array(["x"]), pa.array(["y"], pa.large_string()), None),
    "categories and text": (pa.array(["x"]).dictionary_encode(), pa.array(["y"]), None),
    "units": (pa.array([1], pa.timestamp("ms")), pa.array([2], pa.timestamp("us")), "datetime64[us]"),
    "decimals": (pa.array([Decimal("1.5")]), pa.array([Decimal("100.25")]), "object"),
    "lists": (pa.array([[1]]), pa.array([["x"]]), "object"),
    "nulls and structs": (pa.nulls(1), pa.array([{"a": 1}]), "object"),
    "dates": (pa.array([dt.date(2026, 1, 1)], pa.date32()), pa.array([dt.date(2026, 1, 2)], pa.date64()), "object"),
}


@each_suffix
@pytest.mark.parametrize("case", SAME)
def test_types_that_go_together_become_one(tmp_path, suffix, case):
    one, two, expected = SAME[case]
    write(tmp_path / f"1{suffix}", pa.table({"v": one}))
    write(tmp_path / f"2{suffix}", pa.table({"v": two}))
    frames = mini_batches(dataset_of(tmp_path, suffix), tmp_path)
    assert dtypes_of(frames) == [
        expected or str(pd.array(["x"], dtype=pa.table({"v": ["x"]}).to_pandas()["v"].dtype).dtype)
    ]
    found = [None if value is None or value is pd.NaT else value for frame in frames for value in frame["v"]]
    wanted = [*one.to_pylist(), *two.to_pylist()]
    for mine, theirs in zip(found, wanted, strict=True):
        if theirs is None:
            assert pd.isna(mine)
        else:
            assert list(mine) == theirs if isinstance(theirs, list) else mine == theirs


DIFFERENT = {
    "int64 and text": (pa.array([1]), pa.array(["x"])),
    "int64 and bool": (pa.array([1]), pa.array([True])),
    "uint64 and int64": (pa.array([1], pa.uint64()), pa.array([-1])),
    "zones": (pa.array([1], pa.timestamp("us", "UTC")), pa.array([1], pa.timestamp("us"))),
    "dates and moments": (pa.array([dt.date(2026, 1, 1)]), pa.array([1], pa.timestamp("us"))),
    "text and bytes": (pa.array(["x"]), pa.array([b"x"])),
    "lists and text": (pa.array([[1]]), pa.array(["x"])),
    "lists and structs": (pa.array([[1]]), pa.array([{"a": 1}])),
    "categories": (pa.array([1]).dictionary_encode(), pa.array(["x"]).dictionary_encode()),
}


@each_suffix
@pytest.mark.parametrize("case", DIFFERENT)
def test_types_that_do_not_go_together_name_both_files(tmp_path, suffix, case):
    for number, column in enumerate(DIFFERENT[case]):
        write(tmp_path / f"{number}{suffix}", pa.table({"v": column, "n": [number]}))
    with pytest.raises(InputError, match=rf"column 'v' is of type .* in .*1{suffix}', but of type .* in .*0{suffix}'"):
        mini_batches(dataset_of(tmp_path, suffix), tmp_path)
    assert together(dataset_of(tmp_path, suffix, columns=["n"]), tmp_path)["n"].tolist() == [0, 1]


@each_suffix
def test_a_file_without_rows_says_nothing_about_types(tmp_path, suffix):
    write(tmp_path / f"1{suffix}", pa.table({"v": pa.array([], pa.string())}))
    write(tmp_path / f"2{suffix}", pa.table({"v": [1]}))
    (frame,) = mini_batches(dataset_of(tmp_path, suffix), tmp_path)
    assert frame["v"].dtype == "int64"


KINDS = [
    *(pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(), pa.null()),
    *(pa.string(), pa.large_string(), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.date32()),
    *(pa.list_(pa.int8()), pa.struct({"a": pa.int8()}), pa.decimal128(5, 2), pa.dictionary(pa.int8(), pa.string())),
]


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(KINDS, 2)))
def test_it_does_not_matter_which_file_is_the_first(one, two):
    forth, back = common_type(one, two), common_type(two, one)
    assert forth == back


# Categories


@each_suffix
def test_all_mini_batches_have_all_categories(tmp_path, suffix):
    """The codes of categories mean the same everywhere."""
    parts = [pa.array(text).dictionary_encode() for text in (["b", "a", "b"], ["c", "a", None])]
    for number, part in enumerate(parts):
        write(tmp_path / f"{number}{suffix}", pa.table({"c": part}), rows=1)
    frames = mini_batches(dataset_of(tmp_path, suffix), tmp_path, "1 rows")
    assert {tuple(frame["c"].cat.categories) for frame in frames} == {("b", "a", "c")}
    assert [code for frame in frames for code in frame["c"].cat.codes] == [0, 1, 0, 2, 1, -1]


def test_the_order_of_categories_and_those_without_a_row_survive(tmp_path):
    frame = pd.DataFrame({"c": pd.Categorical(["b", "a"], ["z", "a", "b"], ordered=True)})
    frame.to_parquet(tmp_path / "1.parquet", row_group_size=1)
    assert_frame_equal(together(parquet(tmp_path / "1.parquet"), tmp_path, "1 rows"), frame)


@each_suffix
def test_very_many_categories_become_what_they_stand_for(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(categories, "MOST_BYTES", 10)
    column = pa.array(["b" * 10, "a", "b" * 10]).dictionary_encode()
    write(tmp_path / f"1{suffix}", pa.table({"c": column}), rows=1)
    frame = together(dataset_of(tmp_path, suffix), tmp_path, "1 rows")
    assert_frame_equal(frame, pa.table({"c": column.cast(pa.string())}).to_pandas())


# What pandas has noted

NOTED = [("Int64", [2**60 + 1, None, 1]), ("boolean", [True, None, True]), ("string", ["x", None, "y"])]


@pytest.mark.parametrize(("dtype", "column"), [*NOTED, ("Float64", [0.5, None, 1.0]), ("int64[pyarrow]", [1, None, 2])])
@pytest.mark.parametrize("first", [0, 1])
def test_types_of_pandas_hold_in_files_of_other_writers_too(tmp_path, dtype, column, first):
    frame = pd.DataFrame({"v": pd.array(column, dtype)})
    frame.to_parquet(tmp_path / f"{first}.parquet", row_group_size=1)
    write(tmp_path / f"{1 - first}.parquet", pa.Table.from_pandas(frame).replace_schema_metadata(None))
    frames = mini_batches(parquet(tmp_path / "*.parquet"), tmp_path, "1 rows")
    assert {str(one["v"].dtype) for one in frames} == {str(frame["v"].dtype)}


@pytest.mark.parametrize(
    ("one", "two", "expected"), [("Int32", "Int64", "Int64"), ("Int64", "int64[pyarrow]", "float64")]
)
def test_types_of_pandas_that_differ_become_one(tmp_path, one, two, expected):
    for dtype in (one, two):
        pd.DataFrame({"v": pd.array([1, None], dtype)}).to_parquet(tmp_path / f"{dtype}.parquet")
    assert dtypes_of(mini_batches(parquet(tmp_path / "*.parquet"), tmp_path)) == [expected]


@each_suffix
@pytest.mark.parametrize("names", [["id"], ["a", "b"]])
def test_a_named_index_is_columns_in_front(tmp_path, suffix, names):
    index = (
        pd.Index([7, 8, 9], name="id") if len(names) == 1 else pd.MultiIndex.from_product([[1], [2, 3, 4]], names=names)
    )
    table = pa.Table.from_pandas(pd.DataFrame({"n": [1, 2, 3]}, index))
    write(tmp_path / f"1{suffix}", table)
    found = together(dataset_of(tmp_path, suffix), tmp_path)
    assert list(found) == [*names, "n"]
    assert found[names[-1]].tolist() == index.get_level_values(-1).tolist()


@each_suffix
def test_a_named_range_is_a_column_whatever_the_row_groups(tmp_path, suffix):
    for number, rows in enumerate((5, 3)):
        frame = pd.DataFrame({"n": range(rows)}, pd.RangeIndex(10, 10 + 2 * rows, 2, name="id"))
        write(tmp_path / f"{number}{suffix}", pa.Table.from_pandas(frame))
    for size in ("1 rows", "2 rows", "100 rows"):
        found = together(dataset_of(tmp_path, suffix), tmp_path, size)
        assert found["id"].tolist() == [10, 12, 14, 16, 18, 10, 12, 14]
    assert together(dataset_of(tmp_path, suffix, columns=["id"]), tmp_path).to_dict("list") == {
        "id": found["id"].tolist()
    }
    if suffix == ".parquet":
        some = together(dataset_of(tmp_path, suffix, filter=[("n", ">", 1)]), tmp_path)
        assert some["id"].tolist() == [14, 16, 18, 14]
    dataset = dataset_of(tmp_path, suffix).partition_by(["id"])
    assert [
        partition["id"] for partition in partitions(planned(table_plan(tmp_path, dataset, partition_keys=["id"])))
    ] == [*(10, 12, 14, 16, 18)]


@each_suffix
@pytest.mark.parametrize("columns", [None, ["n"]])
def test_an_index_without_a_name_arrives_as_pandas_gives_it(tmp_path, suffix, columns):
    frame = pd.DataFrame({"n": [1, 2, 3], "k": [1, 1, 1]}, pd.date_range("2026-01-01", periods=3))
    write(tmp_path / f"1{suffix}", pa.Table.from_pandas(frame))
    expected = frame if columns is None else frame[columns]
    frames = mini_batches(dataset_of(tmp_path, suffix, columns=columns), tmp_path, "1 rows")
    assert_frame_equal(pd.concat(frames), expected, check_freq=False, check_index_type=False, check_dtype=True)
    copied = dataset_of(tmp_path, suffix, columns=["n", "k"]).partition_by(["k"])
    ((_, copy),) = planned(table_plan(tmp_path, copied, partition_keys=["k"]))
    assert copy.index.tolist() == frame.index.tolist()
    assert list(copy) == ["n", "k"]


@each_suffix
def test_keys_of_text_stand_beside_an_index_without_a_name(tmp_path, suffix):
    for land in ("at", "de"):
        (tmp_path / f"land={land}").mkdir()
        frame = pd.DataFrame({"n": [1, 2], "k": ["x", "y"]}, pd.date_range("2026-01-01", periods=2))
        write(tmp_path / f"land={land}" / f"1{suffix}", pa.Table.from_pandas(frame))
    dataset = dataset_of(tmp_path / "land=*", suffix)
    frames = mini_batches(dataset, tmp_path, "3 rows")
    assert [frame["land"].tolist() for frame in frames] == [["at", "at"], ["de", "de"]]
    copied = table_plan(tmp_path, dataset.partition_by(["k"]), partition_keys=["k"])
    assert values(planned(copied), "n", "land", "k") == [
        [(1, "at", "x"), (1, "de", "x")],
        [(2, "at", "y"), (2, "de", "y")],
    ]


def test_an_index_of_whole_numbers_without_a_name_counts_rows(tmp_path):
    pd.DataFrame({"n": [1, 2]}, [7, 8]).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"n": [3]}).to_parquet(tmp_path / "2.parquet")
    assert [frame.index.tolist() for frame in mini_batches(parquet(tmp_path / "*.parquet"), tmp_path)] == [[0, 1], [0]]


def test_files_with_and_without_an_index_name_both(tmp_path):
    pd.DataFrame({"n": [1]}, ["x"]).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"n": [1]}).to_parquet(tmp_path / "2.parquet")
    with pytest.raises(InputError, match=r"an index without a name in .*1\.parquet', but not in .*2\.parquet'"):
        mini_batches(parquet(tmp_path / "*.parquet"), tmp_path)


def test_whole_numbers_as_names_of_columns(tmp_path):
    frame = pd.DataFrame({0: [1, 2, 3], 1: ["a", "b", "c"]})
    (tmp_path / "k=x").mkdir()
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "k=x" / "1.parquet")
    (found,) = mini_batches(parquet(tmp_path / "k=x" / "1.parquet"), tmp_path, "9 rows")
    assert found[[0, 1]].to_dict("list") == frame.to_dict("list")
    (found,) = mini_batches(parquet(tmp_path / "k=x" / "1.parquet", columns=["1", "k"]), tmp_path, "9 rows")
    assert found.to_numpy().tolist() == [["a", "x"], ["b", "x"], ["c", "x"]]
    copied = parquet(tmp_path / "k=x" / "1.parquet").partition_by(["1"])
    assert len(planned(table_plan(tmp_path, copied, partition_keys=["1"]))) == 3


def test_names_with_dots_are_names(tmp_path):
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.c": [3, None], "n": [5, 6]})
    write(tmp_path / "1.parquet", table, rows=1, statistics=False)
    frames = mini_batches(parquet(tmp_path / "1.parquet", columns=["a.c", "a"], filter=[("a.c", "!=", 9)]), tmp_path)
    assert [frame.to_dict("list") for frame in frames] == [{"a.c": [3], "a": [{"b": 1}]}]


def test_two_columns_of_one_name_are_refused(tmp_path):
    write(tmp_path / "1.parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]))
    with pytest.raises(InputError, match=r"1\.parquet' has two columns named 'n'"):
        mini_batches(parquet(tmp_path / "1.parquet"), tmp_path)


# Types with which few functions can work

VIEWS = [
    ("string_view", ["a", "b", None, "a", "b"], "a"),
    ("binary_view", [b"a", b"b", None, b"a", b"b"], None),
]


@each_suffix
@pytest.mark.parametrize(("kind", "column", "wanted"), VIEWS)
def test_views_are_text_and_bytes(tmp_path, suffix, kind, column, wanted):
    try:
        write(tmp_path / f"1{suffix}", pa.table({"v": pa.array(column, getattr(pa, kind)()), "n": range(5)}))
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow cannot write such a file")
    frames = mini_batches(dataset_of(tmp_path, suffix), tmp_path)
    assert [None if pd.isna(one) else one for frame in frames for one in frame["v"]] == column
    assert len(dtypes_of(frames)) == 1
    if suffix == ".parquet":
        some = [
            frame["n"].tolist()
            for frame in mini_batches(dataset_of(tmp_path, suffix, filter=[("v", "!=", None)]), tmp_path)
        ]
        assert [n for part in some for n in part] == [0, 1, 3, 4]
    if wanted is None:
        with pytest.raises(InputError, match=r"the column 'v' is of type .*binary, so it cannot be a key"):
            table_plan(tmp_path, dataset_of(tmp_path, suffix).partition_by(["v"]))
        return
    if suffix == ".parquet":
        for condition, rows in ((("v", "=", "a"), [0, 3]), (("v", "in", ["b"]), [1, 4]), (("v", ">", "a"), [1, 4])):
            assert together(dataset_of(tmp_path, suffix, filter=[condition]), tmp_path)["n"].tolist() == rows
    found = planned(table_plan(tmp_path, dataset_of(tmp_path, suffix).partition_by(["v"]), partition_keys=["v"]))
    assert [partition["v"] for partition in partitions(found)] == ["a", "b", None]
    copied = table_plan(tmp_path, dataset_of(tmp_path, suffix).partition_by(["n"]), partition_keys=["n"], run="2")
    assert [frame["v"].tolist()[0] for _, frame in planned(copied)][:2] == column[:2]


@each_suffix
def test_views_in_lists_and_structs_are_text(tmp_path, suffix):
    kind = pa.struct({"a": pa.list_(pa.string_view())})
    try:
        write(tmp_path / f"1{suffix}", pa.table({"v": pa.array([{"a": ["x", None]}, None], kind)}))
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow cannot write such a file")
    first, second = together(dataset_of(tmp_path, suffix), tmp_path)["v"].tolist()
    assert list(first["a"]) == ["x", None]
    assert second is None


def odd_columns():
    """Columns of types that a copy cannot hold, or that can be no keys."""
    union = pa.UnionArray.from_dense(pa.array([0, 0], pa.int8()), pa.array([0, 1], pa.int32()), [pa.array([1, 2])])
    ends = pa.RunEndEncodedArray.from_arrays([2], [1])
    odd = {"union": union, "run_end_encoded": ends, "interval": pa.array([(1, 1, 1)] * 2, pa.month_day_nano_interval())}
    if hasattr(pa, "decimal32"):
        odd["decimal32"] = pa.array([Decimal("1.5")] * 2, pa.decimal32(5, 2))
    return odd


ODD = odd_columns()


@pytest.mark.parametrize(
    ("kind", "is_key"),
    [(kind, is_key) for kind in ODD for is_key in (True, False) if is_key or kind != "decimal32"],  # a copy holds these
)
def test_types_that_cannot_be_copied_are_named(tmp_path, kind, is_key):
    write(tmp_path / "1.arrow", pa.table({"v": ODD[kind], "n": [1, 2]}))
    dataset = dataset_of(tmp_path, ".arrow").partition_by(["v" if is_key else "n"])
    with pytest.raises(InputError, match=rf"the column 'v' .*is of type .*{kind}"):
        table_plan(tmp_path, dataset)
    chosen = dataset_of(tmp_path, ".arrow", columns=["n"])
    assert together(chosen, tmp_path)["n"].tolist() == [1, 2]


def test_a_filter_that_fits_no_column_names_it_and_its_type(tmp_path):
    write(tmp_path / "1.parquet", pa.table({"v": [[1]]}))
    with pytest.raises(InputError, match=r"does not fit .*1\.parquet': v is of type list"):
        mini_batches(parquet(tmp_path / "1.parquet", filter=[("v", "=", 1)]), tmp_path)
    with pytest.raises(InputError, match=r"does not fit .*1\.parquet': no such column"):
        mini_batches(parquet(tmp_path / "1.parquet", filter=[("w", "=", 1)]), tmp_path)


# What is read, and what is kept


@pytest.mark.parametrize("condition", [("v", "<", 2**70), ("v", "in", [2**64 - 1, 1]), ("v", ">", -(2**64))])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_a_number_that_no_column_can_hold_is_named_in_a_filter(tmp_path, condition, kind):
    write(tmp_path / "1.parquet", pa.table({"v": pa.array([1, 2], kind)}))
    with pytest.raises(InputError, match=rf"the filter .* of 't' does not fit .*1\.parquet': v is of type {kind}"):
        together(parquet(tmp_path / "1.parquet", filter=[condition]), tmp_path)


def test_with_a_filter_the_chosen_and_the_filtered_columns_are_read(tmp_path, monkeypatch):
    write(tmp_path / "1.parquet", pa.table({"a": [1, 2], "b": [1, 2], "c": [1, 2], "d": [1, 2]}))
    asked = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, number, columns=None: asked.append(columns) or read(self, number, columns=columns),
    )
    frame = together(parquet(tmp_path / "1.parquet", columns=["c", "a"], filter=[("b", ">", 1)]), tmp_path)
    assert frame.to_dict("list") == {"c": [2], "a": [2]}
    assert asked == [["c", "a", "b"]]


@pytest.fixture
def own_pool():
    """Let Arrow allocate from a pool that nothing of other tests is in."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(usual)


def test_a_row_group_is_let_go_with_its_last_part(tmp_path, own_pool):
    write(tmp_path / "1.parquet", pa.table({"a": np.arange(1_000_000)}), rows=1_000_000)
    reader, pieces = cut(parquet(tmp_path / "1.parquet"), tmp_path, "400000 rows")
    held = []
    for piece in pieces:
        assert len(reader.load(*piece)) == piece[1]
        held.append(own_pool.bytes_allocated() > 4_000_000)
    assert held == [True, True, False]


# Tables drawn at random

numbers = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53, 2**53 + 1, -(2**53)]))
floats = st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), float("inf"), -float("inf")])
moments = st.sampled_from([dt.datetime(2026, 1, day) for day in (1, 2, 3)])  # noqa: DTZ001
in_utc = st.sampled_from([dt.datetime(2026, 1, day, tzinfo=dt.timezone.utc) for day in (1, 2, 3)])
COLUMNS = {
    "whole": (pa.int64(), numbers),
    "unsigned": (pa.uint64(), st.integers(0, 3) | st.integers(0, 2**64 - 1)),
    "small": (pa.int8(), st.integers(-3, 3)),
    "float": (pa.float64(), floats),
    "float32": (pa.float32(), floats),
    "truth": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.sampled_from(["", "a", "aa", "b", "é", "a" * 200])),
    "category": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b"])),
    "day": (pa.date32(), st.sampled_from([dt.date(2026, 1, day) for day in (1, 2, 3)])),
    "moment": (pa.timestamp("us"), moments),
    "moment in ns": (pa.timestamp("ns"), moments),
    "moment in a zone": (pa.timestamp("ms", "Europe/Berlin"), in_utc),
    "decimal": (pa.decimal128(9, 2), st.sampled_from([Decimal("1.50"), Decimal("-2.25"), Decimal("0.00")])),
}


@st.composite
def tables(draw, names=None):
    """Draw some files with the same columns; ``n`` numbers the rows of all."""
    files, first = [], 0
    chosen = names or draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3, unique=True))
    for _ in range(draw(st.integers(1, 2))):
        rows = draw(st.integers(0, 8))
        arrays = {"n": pa.array(range(first, first + rows), pa.int64())}
        for name in chosen:
            kind, value = COLUMNS[name]
            cells = draw(st.lists(value | st.none() if draw(st.booleans()) else value, min_size=rows, max_size=rows))
            arrays[name] = (
                pa.array(cells, kind.value_type).dictionary_encode() if name == "category" else pa.array(cells, kind)
            )
        first += rows
        files.append((pa.table(arrays), draw(st.integers(1, 4)), draw(st.booleans())))
    return files


@st.composite
def conditions(draw, names):
    """Draw a filter on some columns."""
    groups = []
    for _ in range(draw(st.integers(1, 2))):
        group = []
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
            value = COLUMNS[name][1].filter(lambda one: not (isinstance(one, float) and isnan(one)))
            operators = ["=", "!=", "in", "not in"] + (["<", "<=", ">", ">="] if name != "truth" else [])
            operator = draw(st.sampled_from(operators))
            if operator in {"in", "not in"}:
                value = st.lists(value | st.none(), min_size=1, max_size=2).filter(any_value)
            elif operator in {"=", "!="}:
                value |= st.none()
            group.append([name, operator, draw(value)])
        groups.append(group)
    return groups


def any_value(listed):
    return any(one is not None for one in listed)


def comparable(table):
    """Leave one zero, and types that Arrow compares with values of Python."""
    for position, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz:
            utc = pa.timestamp("us", "UTC")
            table = table.set_column(position, field.name, table.column(position).cast(utc))
        if pa.types.is_uint64(field.type):
            table = table.set_column(position, field.name, table.column(position).cast(pa.decimal128(20)))
        if pa.types.is_floating(field.type):
            column = [one if one is None else one + 0.0 for one in table.column(position).to_pylist()]
            table = table.set_column(position, field, pa.array(column, field.type))
    return table


def plainly(condition):
    name, operator, value = condition
    column = pa.compute.field(name)
    if value is None:
        return ~column.is_null() if operator == "!=" else column.is_null()
    if name == "unsigned":
        value = [one and Decimal(one) for one in value] if isinstance(value, list) else Decimal(value)
    elif isinstance(value, list):
        value = [one + 0.0 if isinstance(one, float) else one for one in value]
    return pq.filters_to_expression([(name, operator, value)])


def rows_that_fulfil(table, groups):
    """Filter the entire table in memory."""
    table = comparable(table)
    found = set()
    for group in groups:
        expression = plainly(group[0])
        for condition in group[1:]:
            expression &= plainly(condition)
        found |= set(table.filter(expression)["n"].to_pylist())
    return sorted(found)


def expected_frame(table):
    """Say what pandas makes of the entire table, but for whole numbers that it would round."""
    frame = table.to_pandas()
    for name, column in zip(table.schema.names, table.columns, strict=True):
        known = [one for one in column.to_pylist() if one is not None]
        if pa.types.is_integer(column.type) and column.null_count and any(abs(one) > 2**53 for one in known):
            frame[name] = pd.array(column.to_pylist(), "UInt64" if column.type == pa.uint64() else "Int64")
    return frame


@in_one_folder
@given(st.data())
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_mini_batches_are_the_entire_table(tmp_path, suffix, data):
    files = data.draw(tables([name for name in sorted(COLUMNS) if name != "category"]) | tables())
    for old in tmp_path.glob(f"*{suffix}"):
        old.unlink()
    for number, (table, rows, statistics) in enumerate(files):
        write(tmp_path / f"{number}{suffix}", table, rows=rows, statistics=statistics)
    whole = pa.concat_tables([table for table, _, _ in files])
    frames = mini_batches(dataset_of(tmp_path, suffix), tmp_path)
    if not len(whole):
        assert frames == []
        return
    expected = expected_frame(whole)
    for frame in frames:
        assert frame.dtypes.astype(str).to_dict() == expected.dtypes.astype(str).to_dict()
    found = pd.concat(frames, ignore_index=True)
    assert_frame_equal(found, expected)


@settings(in_one_folder, max_examples=60)
@given(st.data())
def test_a_filter_finds_what_filtering_the_entire_table_finds(tmp_path, data):
    files = data.draw(tables())
    names = files[0][0].schema.names[1:]
    groups = data.draw(conditions(names))
    for old in tmp_path.glob("*.parquet"):
        old.unlink()
    for number, (table, rows, statistics) in enumerate(files):
        write(tmp_path / f"{number}.parquet", table, rows=rows, statistics=statistics)
    whole = pa.concat_tables([table for table, _, _ in files])
    frames = mini_batches(parquet(tmp_path / "*.parquet", filter=groups), tmp_path, "3 rows")
    assert [n for frame in frames for n in frame["n"]] == rows_that_fulfil(whole, groups)
    if not frames:
        return
    wanted = rows_that_fulfil(whole, groups)
    expected = expected_frame(whole.filter(pa.array([n in wanted for n in whole["n"].to_pylist()])))
    for frame in frames:
        assert frame.dtypes.astype(str).to_dict() == expected.dtypes.astype(str).to_dict()
