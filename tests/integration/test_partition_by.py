"""Copies of tables, partitioned by the values of columns: from a dataset to what run() would get."""

import datetime as dt
import gzip
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from functools import partial

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError, EmptyInputError, InputError
from airflow_prs.inputs.copies import copying
from airflow_prs.inputs.copies.copying import write_copy
from airflow_prs.inputs.copies.partitioned_copy import read_copy
from airflow_prs.inputs.text.records import complete_records
from airflow_prs.worker.reading.readers import make_reader
from tests.dag_runs import result_of
from tests.shards import Tries, read_rows
from tests.table_plans import KINDS, mini_batches, partitions, table_plan, values, write_table
from tests.tables import exact

each_kind = pytest.mark.parametrize("kind", KINDS)

ROWS = {"k": ["b", "a", "b", "c", "a", "b"], "j": [1, 1, 2, 1, 2, 1], "n": range(6)}


@pytest.fixture
def write(tmp_path):
    """Write a table below ``data``."""
    return lambda name, frame: write_table(tmp_path / "data" / name, frame)


@pytest.fixture
def plan(tmp_path):
    """Plan a run over datasets below ``data``; gives what each mini-batch's key values and argument would be."""
    return lambda *datasets, **changes: mini_batches(table_plan(tmp_path, *datasets, **changes))


def parquet(path="data"):
    return TabularDataset.from_parquet_files(path)


@each_kind
def test_each_combination_of_values_is_one_mini_batch_in_the_order_of_first_appearance(kind, write, plan):
    write(f"1.{kind}", ROWS)
    write(f"2.{kind}", {"k": ["c", "d"], "j": [1, 1], "n": [6, 7]})
    planned = plan(KINDS[kind]("data").partition_by(["k", "j"]), partition_keys=["k", "j"])
    pairs = [("b", 1), ("a", 1), ("b", 2), ("c", 1), ("a", 2), ("d", 1)]
    assert partitions(planned) == [{"k": k, "j": j} for k, j in pairs]
    assert values(planned, "n") == [[(0,), (5,)], [(1,)], [(2,)], [(3,), (6,)], [(4,)], [(7,)]]
    assert values(planned, "k", "j") == [[pair] * len(frame) for pair, (_, frame) in zip(pairs, planned, strict=True)]
    assert {tuple(frame) for _, frame in planned} == {("n", "k", "j")}
    assert {str(frame["j"].dtype) for _, frame in planned} == {"int64"}


def test_some_of_the_keys_put_partitions_together(write, plan):
    write("1.parquet", ROWS)
    planned = plan(parquet().partition_by(["k", "j"]), partition_keys=["j"])
    assert partitions(planned) == [{"j": 1}, {"j": 2}]
    assert values(planned, "n", "k") == [[(0, "b"), (5, "b"), (1, "a"), (3, "c")], [(2, "b"), (4, "a")]]


def test_without_partition_keys_a_copy_is_cut_by_size_and_no_mini_batch_crosses_partitions(write, plan):
    write("1.parquet", ROWS)
    planned = plan(parquet().partition_by(["k"]), mini_batch_size="2 rows")
    assert partitions(planned) == [None] * 4
    assert sorted(values(planned, "k", "n")[0] + values(planned, "k", "n")[1]) == [("b", 0), ("b", 2), ("b", 5)]
    assert values(planned, "k", "n")[2:] == [[("a", 1), ("a", 4)], [("c", 3)]]


VALUES = {
    "text": [
        "/",
        "=",
        "%",
        "a/b=c%20",
        "\n",
        "ü 中 🙂",
        "",
        " ",
        "..",
        "true",
        "1",
        "__HIVE_DEFAULT_PARTITION__",
        "\0\x7f",
    ],
    "whole": [0, -1, 2**63 - 1, -(2**63)],
    "float": [0.1, 1e300, -2.5, 5e-324, float("inf"), -float("inf"), 1.0],
    "truth": [True, False],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "moment": [dt.datetime(2024, 2, 29, 23, 59, 59, 999999), dt.datetime(1969, 12, 31)],  # noqa: DTZ001
    "moment in a zone": [pd.Timestamp(f"2024-10-27T0{hour}:30Z").tz_convert("Europe/Berlin") for hour in (0, 1)],
    "decimal": [Decimal("1.10"), Decimal("-0.01")],
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("has_missing", [False, True])
def test_values_and_types_of_keys_survive(kind, has_missing, plan, tmp_path):
    wanted = [*VALUES[kind], *([None] if has_missing else [])]
    pq.write_table(pa.table({"key": wanted * 2, "n": range(2 * len(wanted))}), tmp_path / "t.parquet")
    source = pd.read_parquet(tmp_path / "t.parquet")
    if kind == "whole" and has_missing:
        source["key"] = pd.array(wanted * 2, "Int64")  # pandas would round
    planned = plan(parquet("t.parquet").partition_by(["key"]), partition_keys=["key"])
    # Python finds the hour that comes twice in autumn unequal to whatever it is compared with.
    assert [str(partition["key"]) for partition in partitions(planned)] == [str(value) for value in wanted]
    assert values(planned, "n") == [[(n,), (n + len(wanted),)] for n in range(len(wanted))]
    together = pd.concat([frame for _, frame in planned]).sort_values("n", ignore_index=True)
    source["key"] = exact(source["key"], 2 * VALUES[kind])
    pd.testing.assert_frame_equal(together, source[["n", "key"]])
    assert {str(frame["key"].dtype) for _, frame in planned} == {str(source["key"].dtype)}


def test_null_and_nan_are_one_partition_of_its_own(plan, tmp_path):
    pq.write_table(pa.table({"k": pa.array([float("nan"), 1.0, None]), "n": [0, 1, 2]}), tmp_path / "t.parquet")
    planned = plan(parquet("t.parquet").partition_by(["k"]), partition_keys=["k"])
    assert partitions(planned) == [{"k": None}, {"k": 1.0}]
    assert values(planned, "n") == [[(0,), (2,)], [(1,)]]


def test_names_of_keys_may_hold_anything(write, plan):
    write("1.parquet", {"a/b=%": [1, 2], "n": [0, 1]})
    planned = plan(parquet().partition_by(["a/b=%"]), partition_keys=["a/b=%"])
    assert values(planned, "a/b=%", "n") == [[(1, 0)], [(2, 1)]]


def test_other_columns_keep_their_types_and_choices(plan, tmp_path):
    frame = pd.DataFrame({"k": [1, 2, 1], "i": pd.array([2**60 + 1, None, 3], "Int64"), "w": [1, None, 2], "x": "-"})
    frame["c"] = pd.Series(["a", "b", "a"], dtype="category")
    frame.to_parquet(tmp_path / "t.parquet")
    dataset = TabularDataset.from_parquet_files("t.parquet", columns=["c", "i", "w", "k"], filter=[("k", "<", 3)])
    (_, one), (_, two) = plan(dataset.partition_by(["k"]), partition_keys=["k"])
    assert list(one) == ["c", "i", "w", "k"]
    assert one["i"].tolist() == [2**60 + 1, 3]
    assert [str(one[name].dtype) for name in one] == [str(two[name].dtype) for name in two]
    assert str(one["w"].dtype) == "float64"


def test_an_index_that_pandas_stored_is_a_column_if_it_has_a_name(plan, tmp_path):
    pd.DataFrame({"k": [1, 1]}, pd.Index([7, 8], name="id")).to_parquet(tmp_path / "t.parquet")
    ((_, frame),) = plan(parquet("t.parquet").partition_by(["k"]))
    assert frame.to_dict("list") == {"id": [7, 8], "k": [1, 1]}
    pd.DataFrame({"k": [1, 1], "n": [1, 2]}, [7, 8]).to_parquet(tmp_path / "t.parquet")
    ((_, frame),) = plan(parquet("t.parquet").partition_by(["k"]), run="2")
    assert frame.to_dict("list") == {"n": [1, 2], "k": [1, 1]}


def test_keys_in_the_paths_of_the_source_are_columns_to_partition_by(write, plan):
    write("day=1/1.csv", {"n": [1, 2]})
    write("day=2/1.csv", {"n": [2, 3]})
    planned = plan(TabularDataset.from_delimited_files("data").partition_by(["n"]), partition_keys=["n"])
    assert values(planned, "day", "n") == [[("1", 1)], [("1", 2), ("2", 2)], [("2", 3)]]
    by_day = plan(TabularDataset.from_delimited_files("data").partition_by(["day"]), run="2", partition_keys=["day"])
    assert values(by_day, "day", "n") == [[("1", 1), ("1", 2)], [("2", 2), ("2", 3)]]


def test_delimited_files_with_headers_of_their_own_and_foreign_encodings_can_be_partitioned(plan, tmp_path):
    (tmp_path / "1.csv").write_text("# said\nk,a\nü,1\n", "utf-16")
    (tmp_path / "2.csv").write_bytes("b,k\n2,ü\n".encode("utf-16"))
    dataset = TabularDataset.from_delimited_files("*.csv", header="each", encoding="utf-16", comment="#")
    ((partition, frame),) = plan(dataset.partition_by(["k"]), partition_keys=["k"])
    assert partition == {"k": "ü"}
    assert frame.fillna(0).to_dict("list") == {"a": [1, 0], "b": [0, 2], "k": ["ü", "ü"]}


def test_a_packed_file_of_many_blocks_is_read_as_one(plan, tmp_path, monkeypatch):
    in_small_blocks = partial(complete_records, block_bytes=100)
    monkeypatch.setattr("airflow_prs.inputs.copies.tables.complete_records", in_small_blocks)
    rows = "".join(f'{n % 3},"line\n{n}"\n' for n in range(100))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(f"k,n\n{rows}".encode()))
    planned = plan(TabularDataset.from_delimited_files("t.csv.gz").partition_by(["k"]), partition_keys=["k"])
    assert values(planned, "n") == [[(f"line\n{n}",) for n in range(k, 100, 3)] for k in range(3)]


def test_categories_become_what_they_stand_for(plan, tmp_path):
    (tmp_path / "t.csv").write_text("k,c\nx,b\ny,a\nx,c\n")
    dataset = TabularDataset.from_delimited_files("t.csv", dtypes={"k": "category", "c": "category"})
    planned = plan(dataset.partition_by(["k"]), partition_keys=["k"])
    assert values(planned, "k", "c") == [[("x", "b"), ("x", "c")], [("y", "a")]]


def test_whole_numbers_that_no_type_holds_are_an_error_that_says_what_to_do(plan, tmp_path):
    (tmp_path / "t.csv").write_text(f"k,n\nx,{10**30}\n")
    dataset = TabularDataset.from_delimited_files("t.csv").partition_by(["k"])
    with pytest.raises(InputError, match=r"t\.csv' cannot be partitioned, .* Set the type of the column with dtypes"):
        plan(dataset)
    planned = plan(replace(dataset, dtypes={"n": "str"}))
    assert values(planned, "n") == [[(str(10**30),)]]


NEAR = [1234567890123456789, 1234567890123456788]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", f"id,n\n{NEAR[0]},0\n{NEAR[1]},1\n,2\n{NEAR[0]},3\n"),
        (
            "t.jsonl",
            f'{{"id": {NEAR[0]}, "n": 0}}\n{{"id": {NEAR[1]}, "n": 1}}\n{{"n": 2}}\n{{"id": {NEAR[0]}, "n": 3}}\n',
        ),
    ],
)
def test_ids_that_a_float_would_round_stay_apart_beside_missing_ones(plan, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    dataset = KINDS[name[2:]](name)
    by_id = plan(dataset.partition_by(["id"]), partition_keys=["id"])
    assert partitions(by_id) == [{"id": NEAR[0]}, {"id": NEAR[1]}, {"id": None}]
    assert values(by_id, "n") == [[(0,), (3,)], [(1,)], [(2,)]]
    by_n = plan(dataset.partition_by(["n"]), partition_keys=["n"], run="by n")
    for planned in (by_id, by_n):
        assert {str(frame["id"].dtype) for _, frame in planned} == {"Int64"}
        frames = pd.concat([frame for _, frame in planned]).sort_values("n")
        assert frames["id"].tolist() == [NEAR[0], NEAR[1], pd.NA, NEAR[0]]


def test_small_whole_numbers_beside_missing_ones_are_floats_as_keys_too(plan, tmp_path):
    (tmp_path / "t.csv").write_text(f"id,n\n{2**53},0\n,1\n")
    planned = plan(TabularDataset.from_delimited_files("t.csv").partition_by(["id"]), partition_keys=["id"])
    assert {str(frame["id"].dtype) for _, frame in planned} == {"float64"}


@pytest.mark.parametrize("last", ["5", "(2 rows affected)", "\x1a", '"5"'])
@pytest.mark.parametrize("first", ["", "7\n"])
def test_short_records_are_partitioned_as_pandas_reads_them(plan, tmp_path, first, last):
    text = f"a,b\n{first}1,2\n3,4\n{last}"
    (tmp_path / "t.csv").write_text(text)
    planned = plan(TabularDataset.from_delimited_files("t.csv").partition_by(["a"]), partition_keys=["a"])
    whole = pd.read_csv(tmp_path / "t.csv")
    found = pd.concat([frame for _, frame in planned], ignore_index=True)[["a", "b"]]
    pd.testing.assert_frame_equal(found, whole)


def test_truth_values_are_objects_in_each_partition_if_the_first_rows_lack_them(plan, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n5\nx,True\n")
    planned = plan(TabularDataset.from_delimited_files("t.csv").partition_by(["a"]), partition_keys=["a"])
    assert [str(frame["b"].dtype) for _, frame in planned] == ["object", "object"]
    assert planned[1][1]["b"].tolist() == [True]


def test_objects_and_lists_in_json_lines_go_along(plan, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"k": true, "o": {"a": 1}}\n{"o": {"b": [2]}}\n')
    planned = plan(TabularDataset.from_json_lines_files("t.jsonl").partition_by(["k"]), partition_keys=["k"])
    assert partitions(planned) == [{"k": True}, {"k": None}]
    assert planned[0][1]["o"][0]["a"] == 1
    assert list(planned[1][1]["o"][0]["b"]) == [2]


@pytest.mark.parametrize("key", ["k", "n"])
def test_a_whole_number_without_a_type_is_named_with_its_column(tmp_path, key):
    (tmp_path / "1.jsonl").write_text(f'{{"k": 1, "n": {2**64}}}\n{{"k": 2, "n": null}}\n')
    dataset = TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")).partition_by([key])
    with pytest.raises(
        InputError, match=rf"1\.jsonl' cannot be partitioned.*column 'n' holds {2**64}, which needs a type"
    ):
        table_plan(tmp_path, dataset)


def test_the_rows_of_a_query_can_be_partitioned(tmp_path):
    query = TabularDataset.from_sql_query("SELECT", "db").partition_by(["k"])
    batches = [(("k", "n"), [(2, 0), (1, 1)]), (("k", "n"), [(2, 2)])]
    changes = {"run_query": lambda sql, conn_id: iter(batches)}
    planned = mini_batches(result := table_plan(tmp_path, query, changes=changes, partition_keys=["k"]))
    assert values(planned, "k", "n") == [[(2, 0), (2, 2)], [(1, 1)]]
    assert (result.folder.path / "inputs" / "in0" / "k=2" / "rows.parquet").exists()


# What is refused


def test_a_column_that_is_not_there_is_named_with_those_that_are(write, plan):
    write("day=1/1.csv", {"n": [1], "k": [1]})
    dataset = TabularDataset.from_delimited_files("data", columns=["n"]).partition_by(["n", "k"])
    with pytest.raises(ConfigError, match=r"partition_by of 'in0' names \['k'\], .* the columns \['n', 'day'\]"):
        plan(dataset)


def test_partition_keys_that_are_none_of_the_copy_are_named(write, plan):
    write("k=1/1.parquet", {"n": [1]})
    with pytest.raises(ConfigError, match=r"'in0' is partitioned by \['n'\], so it cannot be cut by \['k'\]"):
        plan(parquet().partition_by(["n"]), partition_keys=["k"])


def test_a_partitioned_input_beside_one_without_the_key_is_an_error_that_names_that(write, plan):
    write("k=1/1.parquet", {"n": [1], "m": [1]})
    with pytest.raises(ConfigError, match=r"'in1' has the keys \['k'\], so it cannot be cut by \['n'\]"):
        plan(parquet().partition_by(["n", "k"]), parquet(), partition_keys=["n"])


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([[1], [2]]), r"the column 'k' is of type list.* cannot be a key; allowed: text"),
        (pa.array([b"a", b"b"]), r"the column 'k' is of type binary"),
        (pa.array([1, 2], pa.timestamp("ns")), r"the key column 'k' holds .*a datetime with nanoseconds"),
        (pa.array(["x" * 300, "y"]), r"a folder named 'k=xxx.* at most 255 bytes"),
    ],
)
def test_values_that_can_be_no_key_are_an_error(column, problem, plan, tmp_path):
    pq.write_table(pa.table({"k": column, "n": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=problem):
        plan(parquet("t.parquet").partition_by(["k"]))


def test_a_copy_without_any_other_column_is_refused(write, plan):
    write("1.parquet", {"k": [1]})
    with pytest.raises(ConfigError, match="names all columns of 'in0'"):
        plan(parquet().partition_by(["k"]))


def test_a_column_of_mixed_types_is_an_error_that_says_what_to_do(plan, tmp_path):
    (tmp_path / "1.jsonl").write_text('{"k": 1, "v": "text"}\n')
    (tmp_path / "2.jsonl").write_text('{"k": 1, "v": [1]}\n')
    with pytest.raises(InputError, match=r"'in0' cannot be partitioned, .* Field v .*leave it out with columns"):
        plan(TabularDataset.from_json_lines_files("*.jsonl").partition_by(["k"]))


def test_a_column_of_mixed_types_in_one_file_is_an_error_that_names_both(plan, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"k": 1, "v": "text"}\n{"k": 1, "v": [1]}\n')
    with pytest.raises(InputError, match=r"t\.jsonl' cannot be partitioned, .*column v .*leave it out with columns"):
        plan(TabularDataset.from_json_lines_files("t.jsonl").partition_by(["k"]))


def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(plan, tmp_path):
    (tmp_path / "t.csv").write_text("k,n\n1,2\n1,2,3\n")
    with pytest.raises(InputError, match=r"t\.csv': line 3 cannot be read: "):
        plan(TabularDataset.from_delimited_files("t.csv").partition_by(["k"]))


@pytest.mark.parametrize(
    "line", ['{"k": "\\ud83d"}', "[1]", '{"k": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"k": 1', "\udcff"]
)
def test_a_line_that_cannot_be_read_is_an_error_that_names_file_and_line(plan, tmp_path, line):
    content = '\n{"k": 0}\n\n' + '{"k": 1}\n' * 100_000 + line + '\n{"k": 2}\n'
    (tmp_path / "t.jsonl").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"t\.jsonl': line 100004 (is|holds) "):
        plan(TabularDataset.from_json_lines_files("t.jsonl").partition_by(["k"]))


def test_a_source_without_rows_is_an_empty_input(write, plan, tmp_path):
    write("1.csv", {"k": [], "n": []})
    dataset = TabularDataset.from_delimited_files("data").partition_by(["k"], target="copy")
    with pytest.raises(EmptyInputError, match=r"holds? no data"):
        plan(dataset)
    assert not (tmp_path / "copy").exists()


def test_more_partitions_than_a_file_system_has_room_for_are_an_error_before_they_are_written(
    write, plan, tmp_path, monkeypatch
):
    full = os.statvfs_result([4096, 4096, 10**9, 10**9, 10**9, 1000, 5, 5, 0, 255])
    monkeypatch.setattr(copying.os, "statvfs", lambda _: full)
    write("1.parquet", {"k": range(3), "n": range(3)})
    with pytest.raises(InputError, match=r"has 3 partitions, which need 6 files and folders, .*5 more files"):
        plan(parquet().partition_by(["k"], target="copy"))
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


# The target


def test_a_target_holds_folders_that_others_read(write, plan, tmp_path):
    write("1.parquet", {"k": ["a/b", "c"] * 2, "j": [1, 2] * 2, "n": range(4)})
    planned = plan(parquet().partition_by(["k", "j"], target="copies/all"))
    assert values(planned, "n") == [[(0,), (2,)], [(1,), (3,)]]
    table = pq.read_table(tmp_path / "copies" / "all").to_pandas()
    assert table[["k", "j", "n"]].astype(str).to_numpy().tolist() == [
        ["a/b", "1", "0"],
        ["a/b", "1", "2"],
        ["c", "2", "1"],
        ["c", "2", "3"],
    ]
    again = plan(parquet("copies/all"), run="2", partition_keys=["k"])
    assert partitions(again) == [{"k": "a/b"}, {"k": "c"}]


def test_a_copy_of_the_same_source_is_taken_as_it_is_and_another_takes_its_place(write, plan, tmp_path):
    write("1.parquet", {"k": [1, 1, 2], "d": [dt.date(2026, 1, 1)] * 3, "n": [1, 2, 3]})
    dataset = parquet().partition_by(["k", "d"], target=str(tmp_path / "copy"))
    first = plan(dataset, partition_keys=["d", "k"])
    inode = (tmp_path / "copy").stat().st_ino
    assert [(one, frame.to_dict()) for one, frame in plan(dataset, run="2", partition_keys=["d", "k"])] == [
        (one, frame.to_dict()) for one, frame in first
    ]
    assert (tmp_path / "copy").stat().st_ino == inode
    write("2.parquet", {"k": [3], "d": [dt.date(2026, 1, 1)], "n": [4]})
    assert values(plan(dataset, run="3"), "n") == [[(1,), (2,)], [(3,)], [(4,)]]
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [".partitions.parquet", "k=1", "k=2", "k=3"]


def test_a_copy_that_lost_a_file_is_written_anew(write, plan, tmp_path):
    write("1.parquet", {"k": [1, 2], "n": [1, 2]})
    dataset = parquet().partition_by(["k"], target="copy")
    plan(dataset)
    (tmp_path / "copy" / "k=1" / "rows.parquet").unlink()
    assert values(plan(dataset, run="2"), "n") == [[(1,)], [(2,)]]


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_target_with_other_files_is_refused_and_left_alone(is_copy, write, plan, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    dataset = parquet().partition_by(["k"], target="copy")
    if is_copy:
        plan(dataset)
        write("1.parquet", {"k": [1], "n": [2]})
    (tmp_path / "copy" / "k=1").mkdir(parents=True, exist_ok=True)
    (tmp_path / "copy" / "k=1" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"target of 'in0' is .*, where 'k=1/mine\.txt' is not part of"):
        plan(dataset, run="2")
    assert (tmp_path / "copy" / "k=1" / "mine.txt").read_text() == "mine"


def test_a_target_that_is_a_file_or_the_source_is_refused(write, plan, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"'in0' is .*file', a file; allowed: a folder"):
        plan(parquet().partition_by(["k"], target="file"))
    with pytest.raises(ConfigError, match="target of 'in0' is 'data', which holds the input itself"):
        plan(parquet().partition_by(["k"], target="data"))


@pytest.mark.parametrize("second", ["./copy", "data/../copy", "alias/copy"])
def test_two_inputs_with_one_target_are_refused(write, plan, tmp_path, second):
    write("1.parquet", {"k": [1], "n": [1]})
    (tmp_path / "alias").symlink_to(tmp_path)
    one, two = (parquet().partition_by(["k"], target=target) for target in ("copy", f"{tmp_path}/{second}"))
    with pytest.raises(ConfigError, match=r"target of 'in1' is .*/copy', as is that of 'in0'"):
        plan(one, two)
    assert not (tmp_path / "copy").exists()


def test_a_target_that_is_a_link_is_refused(write, plan, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    (tmp_path / "real").mkdir()
    (tmp_path / "copy").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match=r"target of 'in0' is .*/copy', a link, .*use the folder itself"):
        plan(parquet().partition_by(["k"], target="copy"))


@pytest.mark.parametrize("target", ["data/../data/copy", "alias/copy", "alias/../data/copy"])
@pytest.mark.parametrize("path", ["data/../data", "both"])
def test_a_copy_is_no_input_whatever_leads_to_it(write, plan, tmp_path, target, path):
    write("1.parquet", {"k": [1], "n": [1]})
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    (tmp_path / "both").mkdir()
    (tmp_path / "both/all").symlink_to(tmp_path / "data")
    (tmp_path / "both/copy").symlink_to(tmp_path / "data/copy")
    (tmp_path / "data/copy").mkdir()
    dataset = TabularDataset.from_parquet_files(path).partition_by(["k"], target=target)
    for run in "12":
        assert [len(frame) for _, frame in plan(dataset, run=run)] == [1]


def test_key_values_are_those_of_the_source_and_not_of_its_copy_below(write, plan, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    dataset = parquet(str(tmp_path / "data")).partition_by(["k"], target=str(tmp_path / "data/copy"))
    plan(dataset)
    assert dataset.get_partition_key_values() == [{"k": 1}]


def test_a_copy_of_one_input_is_none_of_another(write, plan):
    write("1.parquet", {"k": [1], "n": [1]})
    copied, all_below = parquet().partition_by(["k"], target="data/copy"), TabularDataset.from_parquet_files("data")
    for run in "12":
        assert [len(frame) for _, frame in plan(copied, all_below, run=run)] == [1, 1]
    copy_alone = TabularDataset.from_parquet_files("data/copy")
    with pytest.raises(ConfigError, match="target of 'in0' is 'data/copy', which holds the input 'in1'"):
        plan(copied, copy_alone, run="3")


def test_a_copy_below_its_source_is_no_part_of_it(write, plan):
    write("1.parquet", {"k": [1], "n": [1]})
    dataset = parquet().partition_by(["k"], target="data/copy")
    assert values(plan(dataset), "n") == values(plan(dataset, run="2"), "n") == [[(1,)]]


def test_what_stops_plan_leaves_the_older_copy_and_nothing_else(write, plan, tmp_path, monkeypatch):
    write("1.parquet", {"k": [1], "n": [1]})
    dataset = parquet().partition_by(["k"], target="copy")
    plan(dataset)
    write("1.parquet", {"k": [1], "n": [2]})

    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copying.os, "sync", stop)
        with pytest.raises(KeyboardInterrupt):
            plan(dataset, run="2")
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy"]
    assert pq.read_table(tmp_path / "copy")["n"].to_pylist() == [1]
    assert values(plan(dataset, run="3"), "n") == [[(2,)]]


KILLED = """
import os, signal, sys
from pathlib import Path
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.inputs.copies import copying
from tests.table_plans import table_plan

copying.os.sync = lambda: os.kill(os.getpid(), signal.SIGKILL)
table_plan(Path(sys.argv[1]), TabularDataset.from_parquet_files("data").partition_by(["k"], target="copy"))
"""


def test_a_plan_that_is_killed_leaves_nothing_that_counts(write, plan, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode < 0
    assert not (tmp_path / "copy").exists()
    assert values(plan(parquet().partition_by(["k"], target="copy"), run="2"), "n") == [[(1,)]]


def test_a_plan_that_is_late_leaves_the_equal_copy_of_a_quicker_one(write, plan, tmp_path, monkeypatch):
    write("1.parquet", {"k": [1], "n": [1]})
    dataset = parquet().partition_by(["k"], target="copy")
    file = tmp_path / "copy/k=1/rows.parquet"
    inodes = []

    def be_quicker():
        monkeypatch.undo()
        plan(dataset, run="2")
        inodes.append(file.stat().st_ino)

    monkeypatch.setattr(copying.os, "sync", be_quicker)
    assert values(plan(dataset, run="1"), "n") == [[(1,)]]
    assert [file.stat().st_ino] == inodes
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy"]


# Reuse


def test_equal_sources_are_reused_wherever_the_copy_was(write, tmp_path):
    write("1.parquet", {"k": [1], "n": [1]})
    first = table_plan(tmp_path, parquet().partition_by(["k"], target="one"), run="1")
    first.folder.names.report.write_text('{"status": "completed"}')
    assert table_plan(tmp_path, parquet().partition_by(["k"]), run="2").reused_from == str(first.folder.path)
    assert table_plan(tmp_path, parquet().partition_by(["n"]), run="3").reused_from is None
    write("1.parquet", {"k": [1], "n": [2]})
    assert table_plan(tmp_path, parquet().partition_by(["k"]), run="4").reused_from is None


# Properties

keys_of = {
    "text": st.text(st.characters(codec="utf-8"), max_size=5),
    "whole": st.integers(-3, 3),
    "float": st.floats(allow_nan=False, width=32).map(abs),
    "truth": st.booleans(),
}


@st.composite
def tables(draw):
    """Draw key columns, and where the rows of a table are torn apart."""
    count = draw(st.integers(1, 40))
    columns = {
        f"k{number}": draw(
            st.lists(st.none() | keys_of[draw(st.sampled_from(sorted(keys_of)))], min_size=count, max_size=count)
        )
        for number in range(draw(st.integers(1, 3)))
    }
    return columns, sorted(draw(st.lists(st.integers(0, count), max_size=8)))


@settings(deadline=None, max_examples=30)
@given(tables(), st.sampled_from([1, 200, 10**9]), st.integers(2, 4))
def test_a_copy_loses_and_doubles_nothing_and_keeps_the_order(tmp_path_factory, drawn, run_bytes, most_runs):
    columns, cuts = drawn
    rows = list(zip(*columns.values(), strict=True))
    table = pa.table({**columns, "n": range(len(rows))})
    parts = [table.slice(begin, end - begin) for begin, end in itertools.pairwise([0, *cuts, len(rows)])]
    target = tmp_path_factory.mktemp("copies") / "copy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "RUN_BYTES", run_bytes)
        patch.setattr(copying, "MOST_RUNS", most_runs)
        copy = write_copy("in", parts, list(columns), target, "digest")
    expected = {}
    for number, row in enumerate(rows):
        expected.setdefault(row, []).append(number)
    again = read_copy(target, "digest")
    for found in (copy, again):
        assert list(zip(*found.columns, strict=True)) == list(expected)
        reader = make_reader({"name": "in", "kind": "parquet", "options": found.options()})
        frames = [
            reader.load([[path, None, None, None]], len(expected[row]))
            for path, row in zip(found.paths, expected, strict=True)
        ]
        assert [frame["n"].tolist() for frame in frames] == list(expected.values())
        assert [[None if pd.isna(value) else value for value in frame.iloc[0][list(columns)]] for frame in frames] == [
            list(row) for row in expected
        ]


# Values of keys without a run


def test_values_of_partitioned_columns_come_from_the_source(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("day=1/1.csv", ROWS)
    write("day=2/1.csv", {"k": ["d", None], "j": [1, 2], "n": [6, 7]})
    dataset = TabularDataset.from_delimited_files("data").partition_by(["k", "j", "day"], target="{{ ds }}")
    assert dataset.get_partition_key_values(["k"]) == [{"k": k} for k in ("b", "a", "c", "d", None)]
    assert dataset.get_partition_key_values(["day", "j"]) == [
        {"day": day, "j": j} for day, j in (("1", 1), ("1", 2), ("2", 1), ("2", 2))
    ]
    assert dataset.get_partition_key_values()[1] == {"k": "a", "j": 1, "day": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_values_in_paths_are_listed_without_reading_a_file(tmp_path):
    for name in ("b/2024/02.txt", "a/2024/02.txt", "b/2024/03.txt", "c/2024/03.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if name.startswith("c") else "no table")
    for make in (FileDataset, TabularDataset.from_parquet_files):
        dataset = make(str(tmp_path), partition_format="/{user}/{month:yyyy/MM}.txt")
        february, march = dt.datetime(2024, 2, 1), dt.datetime(2024, 3, 1)  # noqa: DTZ001
        assert dataset.get_partition_key_values(["month"]) == [{"month": february}, {"month": march}]
        assert dataset.get_partition_key_values() == [
            {"user": "a", "month": february},
            {"user": "b", "month": february},
            {"user": "b", "month": march},
        ]


def test_values_of_key_folders_are_listed(tmp_path):
    for folder in ("k=b%2F", "k=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f").write_text("x")
    assert FileDataset(str(tmp_path)).get_partition_key_values() == [{"k": None}, {"k": "b/"}]


@pytest.mark.parametrize(
    ("dataset", "keys", "problem"),
    [
        (FileDataset("/tmp/{{ ds }}"), None, "path is .*, which only a run knows"),
        (FileDataset(PipelineParameter("p", "x")), None, "path is PipelineParameter.*, which only a run knows"),
        (TabularDataset.from_sql_query("SELECT 1", "db").partition_by(["a"]), None, "is a query, which only plan runs"),
        (FileDataset(__file__), None, "has no partition_format and no folders named key=value"),
        (FileDataset(__file__, "/{name}.py"), ["x"], r"has the keys \['name'\], so it cannot be cut by \['x'\]"),
        (parquet(__file__).partition_by(["a"]), ["b"], r"keys is \['b'\]; the keys are \['a'\], so there is no"),
    ],
)
def test_values_that_cannot_be_told_are_an_error(dataset, keys, problem):
    with pytest.raises(ConfigError, match=problem):
        dataset.get_partition_key_values(keys)


def test_a_path_without_files_has_no_values_to_tell(tmp_path):
    with pytest.raises(EmptyInputError, match="matched no file"):
        FileDataset(f"{tmp_path}/*").get_partition_key_values()


# A node

SCRIPT = """
def run(mini_batch, mini_batch_context):
    values = mini_batch_context.partition_key_value
    assert [mini_batch[key].iloc[0] for key in values] == list(values.values())
    return [f"{values} {n}" for n in mini_batch["n"]]
"""


def test_a_node_gets_each_partition_with_its_values(write, tmp_path):
    write("1.parquet", {"k": ["x", "y", "x"], "d": [dt.date(2026, 1, 1)] * 3, "p": [Decimal("1.5")] * 3, "n": range(3)})
    (tmp_path / "score.py").write_text(SCRIPT)
    dataset = parquet().partition_by(["k", "d", "p"])
    folder = table_plan(tmp_path, dataset, partition_keys=["k", "d", "p"], node_count=1).folder
    assert Tries(folder).run()["failed"] == 0
    values_of = "{{'k': '{}', 'd': datetime.date(2026, 1, 1), 'p': Decimal('1.5')}}"
    assert read_rows(folder) == [f"{values_of.format(k)} {n}" for k, n in (("x", 0), ("x", 2), ("y", 1))]


def test_a_dag_writes_its_copies_where_templates_and_parameters_say(dag_file, tmp_path):
    for name, first in (("a", 0), ("b", 3)):
        write_table(tmp_path / f"{name}.csv", {"k": ["x", "y", "x"], "n": range(first, first + 3)})
    dag_file.script(
        "def run(mini_batch, context):\n    return [f'{context.partition_key_value} {n}' for n in mini_batch['n']]\n"
    )
    dag_file.write(f"""
        with DAG("{dag_file.folder.name}", schedule=None) as dag:
            tables = [TabularDataset.from_delimited_files(f"{tmp_path}/{{name}}.csv") for name in "ab"]
            ParallelRunOperator(
                task_id="step",
                parallel_run_config=config(partition_keys=["k"], mini_batch_size=None),
                inputs=[
                    tables[0].partition_by(["k"], target="{tmp_path}/{{{{ run_id }}}}"),
                    tables[1].partition_by(["k"], target=PipelineParameter("copy", "nowhere")),
                ],
                output="{tmp_path}/out",
            )
    """)
    run = dag_file.run({"copy": f"{tmp_path}/b"})
    assert run.state == "success"
    rows = [("x", 0), ("x", 2), ("y", 1), ("x", 3), ("x", 5), ("y", 4)]
    assert result_of(tmp_path / "out").splitlines() == [f"{{'k': '{k}'}} {n}" for k, n in rows]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [".partitions.parquet", "k=x", "k=y"]
