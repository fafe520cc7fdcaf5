"""Tables and files that are cut by the values of keys: from a plan to what run() would get."""

from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.config import ParallelRunConfig
from airflow_prs.datasets import FileDataset, TabularDataset
from airflow_prs.environment import Environment
from airflow_prs.errors import ConfigError, EmptyInputError, InputError
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import RunIdentity
from airflow_prs.worker.readers import make_reader


@pytest.fixture
def write(tmp_path):
    """Write a table, as the suffix of its name says."""

    def one(name, frame):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame(frame)
        if name.endswith(".csv"):
            frame.to_csv(path, index=False)
        else:
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=2)

    return one


@pytest.fixture
def plan(tmp_path):
    """Plan a run over datasets below ``data``; gives what each mini-batch's key values and argument would be."""
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")

    def make(*datasets, **settings):
        values = {
            "environment": Environment.current(),
            "entry_script": "score.py",
            "error_threshold": 0,
            "output_action": "append_row",
            "compute_target": "local",
            "node_count": 2,
        }
        request = PlanRequest(
            config=ParallelRunConfig(**values, **settings),
            datasets=tuple(dataset.as_named_input(f"in{number}") for number, dataset in enumerate(datasets)),
            output=str(tmp_path / "out"),
            run_root=str(tmp_path / "root"),
            dag_folder=str(tmp_path),
            identity=RunIdentity(dag_id="dag", run_id="run", task_id="step", plan="plan"),
        )
        folder, manifest = (result := make_plan(request)).folder, result.manifest
        return [loaded(folder, m) for m in folder.read_mini_batches(0, manifest.mini_batches)]

    return make


def loaded(folder, mini_batch):
    (spec,) = [spec for spec in folder.read_settings().inputs if spec.name == mini_batch.input]
    reader = make_reader({"name": spec.name, "kind": spec.kind.value, "options": dict(spec.options)})
    pieces = [[p.path, p.begin, p.end, p.row_group] if reader.is_table else p.path for p in mini_batch.pieces]
    return mini_batch.partition, reader.load(pieces, mini_batch.items)


def partitions(planned):
    return [partition for partition, _ in planned]


def values(planned, *columns):
    return [list(zip(*(frame[column] for column in columns), strict=True)) for _, frame in planned]


KINDS = {"csv": TabularDataset.from_delimited_files, "parquet": TabularDataset.from_parquet_files}
each_kind = pytest.mark.parametrize("kind", KINDS)


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
    assert partitions(planned) == [None, None, None]
    assert values(planned, "n", "k") == [[(0, "a"), (1, "a")], [(2, "a"), (3, "a")], [(4, "a")]]


def test_a_column_that_the_files_of_key_folders_have_themselves_is_taken(write, plan):
    write("k=7/1.parquet", {"k": [7], "n": [1]})
    ((partition, frame),) = plan(TabularDataset.from_parquet_files("data"), partition_keys=["k"])
    assert partition == {"k": "7"}
    assert frame.to_dict("list") == {"k": [7], "n": [1]}


def test_a_key_of_a_partition_format_may_not_be_named_like_a_column(write, plan):
    write("7.csv", {"k": [7]})
    with pytest.raises(ConfigError, match=r"columns named \['k'\], too"):
        plan(TabularDataset.from_delimited_files("data", partition_format="/{k}.csv"))


def test_the_null_of_folders_is_a_value_of_its_own(write, plan):
    write("k=__HIVE_DEFAULT_PARTITION__/1.csv", {"n": [1]})
    write("k=a/1.csv", {"n": [2]})
    planned = plan(TabularDataset.from_delimited_files("data"), partition_keys=["k"])
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
    with pytest.raises(EmptyInputError, match="hold no data"):
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
    with pytest.raises(InputError, match=r"stray\.csv' lies in no folder named key=value"):
        plan(TabularDataset.from_delimited_files("data"), partition_keys=["k"])


def test_files_may_lie_in_folders_of_keys_too(write, plan):
    write("k=b/1.csv", {"n": [1]})
    write("k=a/1.csv", {"n": [1]})
    planned = plan(FileDataset("data"), partition_keys=["k"])
    assert partitions(planned) == [{"k": "a"}, {"k": "b"}]
