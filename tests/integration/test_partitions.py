"""Tables and files that are cut by the values of keys: from a plan to what run() would get."""

from datetime import datetime

import pytest

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError, InputError
from tests.table_plans import KINDS, mini_batches, partitions, table_plan, values, write_table

WHOLE = {"csv.gz", "arrow"}
"""Kinds of files that are never cut."""

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def write(tmp_path):
    """Write a table below ``data``."""
    return lambda name, frame: write_table(tmp_path / "data" / name, frame)


@pytest.fixture
def plan(tmp_path):
    """Plan a run over datasets below ``data``; gives what each mini-batch's key values and argument would be."""
    return lambda *datasets, **settings: mini_batches(table_plan(tmp_path, *datasets, **settings))


@each_kind
def test_each_combination_of_keys_in_folders_is_one_mini_batch_with_all_its_rows_in_order(kind, write, plan):
    for place, first in (("k=b/j=1", 0), ("k=a/j=1", 10), ("k=b/j=2", 20)):
        write(f"{place}/1.{kind}", {"n": range(first, first + 3)})
        write(f"{place}/2.{kind}", {"n": range(first + 3, first + 5)})
    planned = plan(KINDS[kind]("data"), partition_keys=["k", "j"])
    assert partitions(planned) == [{"k": "a", "j": "1"}, {"k": "b", "j": "1"}, {"k": "b", "j": "2"}]
    assert values(planned, "n", "k", "j") == [
        [(n, "a", "1") for n in range(10, 15)],
        [(n, "b", "1") for n in range(5)],
        [(n, "b", "2") for n in range(20, 25)],
    ]
    assert [list(frame) for _, frame in planned] == [["n", "k", "j"]] * 3


@each_kind
def test_keys_that_are_left_out_are_columns_all_the_same(kind, write, plan):
    write(f"day=1/city=x/1.{kind}", {"n": [1]})
    write(f"day=2/city=y/1.{kind}", {"n": [2]})
    write(f"day=3/city=x/1.{kind}", {"n": [3]})
    planned = plan(KINDS[kind]("data"), partition_keys=["city"])
    assert partitions(planned) == [{"city": "x"}, {"city": "y"}]
    assert values(planned, "n", "day", "city") == [[(1, "1", "x"), (3, "3", "x")], [(2, "2", "y")]]


@each_kind
def test_a_partition_format_finds_keys_in_folders_and_file_names(kind, write, plan):
    write(f"ann/2024/02/29/pop-1.{kind}", {"n": [1, 2, 3]})
    write(f"ann/2024/02/29/pop-2.{kind}", {"n": [4]})
    write(f"bob/2024/03/01/pop-1.{kind}", {"n": [5]})
    form = "/{user}/{day:yyyy/MM/dd}/{genre}-{part}." + kind
    planned = plan(KINDS[kind]("data", partition_format=form), partition_keys=["day", "genre"])
    leap, march = (datetime.fromisoformat(day) for day in ("2024-02-29", "2024-03-01"))
    assert partitions(planned) == [{"day": leap, "genre": "pop"}, {"day": march, "genre": "pop"}]
    assert [list(frame) for _, frame in planned] == [["n", "user", "day", "genre", "part"]] * 2
    assert values(planned, "n", "user", "day", "part") == [
        [(1, "ann", leap, "1"), (2, "ann", leap, "1"), (3, "ann", leap, "1"), (4, "ann", leap, "2")],
        [(5, "bob", march, "1")],
    ]


@each_kind
def test_tables_that_are_cut_by_size_have_the_columns_of_keys_too(kind, write, plan):
    write(f"k=a/1.{kind}", {"n": range(5)})
    planned = plan(KINDS[kind]("data"), mini_batch_size="2 rows")
    rows = [(n, "a") for n in range(5)]
    assert values(planned, "n", "k") == ([rows] if kind in WHOLE else [rows[:2], rows[2:4], rows[4:]])
    assert set(partitions(planned)) == {None}


@each_kind
def test_a_column_that_the_files_of_key_folders_have_themselves_is_taken(kind, write, plan):
    write(f"k=7/1.{kind}", {"k": [7], "n": [1]})
    ((partition, frame),) = plan(KINDS[kind]("data"), partition_keys=["k"])
    assert partition == {"k": "7"}
    assert frame.to_dict("list") == {"k": [7], "n": [1]}


@each_kind
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["n"], {"n": [1], "k": [7], "j": ["x"]}),
        (["k", "n"], {"k": [7], "n": [1], "j": ["x"]}),
        (["j", "n"], {"j": ["x"], "n": [1], "k": [7]}),
        (["j", "k"], {"j": ["x"], "k": [7]}),
        (["j"], {"j": ["x"], "k": [7]}),
    ],
)
def test_keys_are_columns_whichever_columns_are_chosen(kind, columns, expected, write, plan):
    write(f"k=7/j=x/1.{kind}", {"k": [7], "m": [0], "n": [1]})
    ((_, frame),) = plan(KINDS[kind]("data", columns=columns), partition_keys=["k"])
    assert frame.to_dict("list") == expected
    assert list(frame) == list(expected)


@each_kind
def test_a_key_may_be_the_only_column_that_is_chosen(kind, write, plan):
    write(f"k=a/1.{kind}", {"n": [1, 2]})
    ((_, frame),) = plan(KINDS[kind]("data", columns=["k"]))
    assert frame.to_dict("list") == {"k": ["a", "a"]}


def test_a_column_that_neither_files_nor_folders_have_is_named_with_those_that_are_there(write, plan):
    write("k=a/1.jsonl", {"n": [1]})
    with pytest.raises(InputError, match=r"no column 'x'; it has the columns \['n', 'k'\]"):
        plan(TabularDataset.from_json_lines_files("data", columns=["x"]))


@pytest.mark.parametrize(
    ("step", "columns"), [("keep_columns: [user, n]", ["user", "n", "day"]), ("drop_columns: [user, m]", ["n", "day"])]
)
def test_an_mltable_keeps_and_drops_the_keys_that_it_extracts(step, columns, tmp_path, write, plan):
    write("ann/2024-02-29.jsonl", {"m": [0], "n": [1]})
    (tmp_path / "data" / "MLTable").write_text(
        "paths: [{pattern: ./*/*.jsonl}]\n"
        "transformations:\n"
        "- read_json_lines\n"
        "- extract_columns_from_partition_format: /{user}/{day:yyyy-MM-dd}.jsonl\n"
        f"- {step}\n"
    )
    ((partition, frame),) = plan(TabularDataset.from_mltable(tmp_path / "data"), partition_keys=["user"])
    assert partition == {"user": "ann"}
    assert list(frame) == columns


def test_a_key_of_a_partition_format_may_not_be_named_like_a_column(write, plan):
    write("7.csv", {"k": [7]})
    with pytest.raises(ConfigError, match=r"columns named \['k'\]: rename these keys"):
        plan(TabularDataset.from_delimited_files("data", partition_format="/{k}.csv"))


@each_kind
def test_the_null_of_folders_is_a_value_of_its_own(kind, write, plan):
    write(f"k=__HIVE_DEFAULT_PARTITION__/1.{kind}", {"n": [1]})
    write(f"k=a/1.{kind}", {"n": [2]})
    planned = plan(KINDS[kind]("data"), partition_keys=["k"])
    assert partitions(planned) == [{"k": None}, {"k": "a"}]
    assert planned[0][1]["k"].isna().all()


@each_kind
def test_files_without_rows_make_no_mini_batch(kind, write, plan):
    write(f"k=a/1.{kind}", {"n": []})
    write(f"k=b/1.{kind}", {"n": [1]})
    assert partitions(plan(KINDS[kind]("data"), partition_keys=["k"])) == [{"k": "b"}]


@each_kind
def test_nothing_but_files_without_rows_is_an_empty_input(kind, write, plan):
    write(f"k=a/1.{kind}", {"n": []})
    with pytest.raises(EmptyInputError, match=r"holds? no data"):
        plan(KINDS[kind]("data"), partition_keys=["k"])


def test_each_input_is_cut_on_its_own_and_needs_the_keys(write, plan):
    write("one/k=a/j=1/1.csv", {"n": [1]})
    write("two/k=a/1.csv", {"n": [2]})
    inputs = [TabularDataset.from_delimited_files(f"data/{name}") for name in ("one", "two")]
    assert partitions(plan(*inputs, partition_keys=["k"])) == [{"k": "a"}, {"k": "a"}]


@pytest.mark.parametrize("keys", [["j"], ["k", "j"]])
def test_a_key_that_an_input_does_not_have_is_named_with_the_input(write, plan, keys):
    write("one/k=a/j=1/1.csv", {"n": [1]})
    write("two/k=a/1.csv", {"n": [2]})
    inputs = [TabularDataset.from_delimited_files(f"data/{name}") for name in ("one", "two")]
    with pytest.raises(ConfigError, match=r"'in1' has the keys \['k'\], so it cannot be cut by \['j'\]"):
        plan(*inputs, partition_keys=keys)


def test_an_input_without_any_key_says_what_would_give_it_some(write, plan):
    write("1.csv", {"n": [1]})
    with pytest.raises(ConfigError, match="no partition_format and no folders named key=value"):
        plan(TabularDataset.from_delimited_files("data"), partition_keys=["k"])


def test_a_file_outside_of_the_folders_is_named(write, plan):
    write("k=a/1.csv", {"n": [1]})
    write("stray.csv", {"n": [1]})
    with pytest.raises(InputError, match=r"stray\.csv' is in no folder named key=value"):
        plan(TabularDataset.from_delimited_files("data"), partition_keys=["k"])


@each_kind
def test_there_may_be_many_keys(kind, write, plan):
    keys = [f"k{number}" for number in range(20)]
    write("/".join(f"{key}={key[1:]}" for key in keys) + f"/1.{kind}", {"n": [1]})
    ((partition, frame),) = plan(KINDS[kind]("data"), partition_keys=keys[::-1])
    assert partition == {key: key[1:] for key in keys[::-1]}
    assert list(frame) == ["n", *keys]


def test_files_may_lie_in_folders_of_keys_too(write, plan):
    write("k=b/1.csv", {"n": [1]})
    write("k=a/1.csv", {"n": [1]})
    planned = plan(FileDataset("data"), partition_keys=["k"])
    assert partitions(planned) == [{"k": "a"}, {"k": "b"}]
