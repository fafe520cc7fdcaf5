"""Plans of inputs on object storage: what they are for the same files on a disk."""

import io
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError, InputChangedError, InputError
from airflow_prs.inputs.cut_input import local_path
from tests.buckets import buckets_in_memory, upload
from tests.table_plans import KINDS, mini_batches, table_plan, write_table

TOP = "s3://conn@bkt/"

FRAMES = {
    "1": {"n": [1, 2, 3, 4, 5], "t": ["a", "b", None, "ü", "e"], "big": [2**60, 1, 2, 3, 4]},
    "2": {"n": pd.array([1, None, 3], "Int64"), "t": ["x", "y", "z"], "big": [1, 2, 3]},
    "3": {"n": [7], "t": ["x"], "big": [5]},
}


@pytest.fixture
def store():
    with buckets_in_memory("bkt") as stores:
        yield stores["bkt"]


def described(result, top):
    """Give all mini-batches and how the inputs are read, with paths below the top."""
    found = []
    for m in result.folder.read_mini_batches(0, result.manifest.mini_batches):
        pieces = tuple(piece._replace(path=piece.path.removeprefix(top), version=None) for piece in m.pieces)
        found.append(replace(m, pieces=pieces))
    return found, result.folder.read_settings().inputs


def require_alike(folder, store, make, pattern="in", **settings):
    """Check that a plan of files and one of the same objects have the same mini-batches."""
    upload(folder / "data", store)
    local = table_plan(folder, make(f"{folder}/data/{pattern}"), run=f"local {settings}", **settings)
    remote = table_plan(folder, make(f"{TOP}{pattern}"), run=f"remote {settings}", **settings)
    assert described(remote, TOP) == described(local, f"{folder}/data/")
    return remote


@pytest.mark.parametrize("suffix", KINDS)
def test_tables_are_cut_as_on_a_disk(tmp_path, store, suffix):
    for name, frame in FRAMES.items():
        write_table(tmp_path / f"data/in/k={name}/{name}.{suffix}", pd.DataFrame(frame))
    require_alike(tmp_path, store, KINDS[suffix], mini_batch_size="2 rows")
    require_alike(tmp_path, store, KINDS[suffix], f"in/*/*.{suffix}", mini_batch_size=30)
    require_alike(tmp_path, store, KINDS[suffix], partition_keys=["k"])


def test_files_are_cut_as_on_a_disk(tmp_path, store):
    for number in range(25):
        path = tmp_path / f"data/in/{number % 3}/{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)

    def dataset(path):
        return FileDataset(path, partition_format="/{group}/{name}.bin")

    require_alike(tmp_path, store, dataset, "in/*/*.bin", mini_batch_size=4)
    remote = require_alike(tmp_path, store, dataset, "in", partition_keys=["group"])
    versions = {piece.path: piece.version for m in remote.folder.read_mini_batches(0, 3) for piece in m.pieces}
    assert versions == {f"{TOP}in/{n % 3}/{n}.bin": store.store.head(f"in/{n % 3}/{n}.bin")["e_tag"] for n in range(25)}


def test_a_filter_selects_rows_of_objects(tmp_path, store):
    for name, frame in FRAMES.items():
        write_table(tmp_path / f"data/in/{name}.parquet", pd.DataFrame(frame))

    def dataset(path):
        return TabularDataset.from_parquet_files(path, filter=[("n", ">", 2)])

    require_alike(tmp_path, store, dataset, mini_batch_size="2 rows")


@pytest.mark.parametrize("suffix", KINDS)
def test_objects_are_copied_by_partition(tmp_path, store, suffix):
    for name, frame in FRAMES.items():
        write_table(tmp_path / f"data/in/{name}.{suffix}", pd.DataFrame(frame))
    upload(tmp_path / "data", store)
    planned = [
        table_plan(tmp_path, KINDS[suffix](f"{top}in").partition_by(["t"]), run=top[:2], partition_keys=["t"])
        for top in (f"{tmp_path}/data/", TOP)
    ]
    local, remote = map(mini_batches, planned)
    assert [partition for partition, _ in remote] == [partition for partition, _ in local]
    for (_, found), (_, expected) in zip(remote, local, strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_key_values_are_found_without_a_plan(store):
    for key in ("in/k=1/a", "in/k=2/b"):
        store.store.put(key, b"x")
    assert FileDataset(f"{TOP}in").get_partition_key_values() == [{"k": "1"}, {"k": "2"}]


def test_the_bucket_is_no_part_of_a_partition_format(tmp_path, store):
    store.store.put("1.csv", b"a\n1\n")
    dataset = FileDataset(f"{TOP}*.csv", partition_format="/{user}/{name}.csv")
    with pytest.raises(InputError, match="does not match partition_format"):
        table_plan(tmp_path, dataset, mini_batch_size=1)


def test_a_change_of_an_object_is_another_input(tmp_path, store):
    store.store.put("in/1.csv", b"a\n1\n")
    dataset = TabularDataset.from_delimited_files(f"{TOP}in")
    prints = [table_plan(tmp_path, dataset, run="1").folder.read_settings().fingerprint]
    prints.append(table_plan(tmp_path, dataset, run="2").folder.read_settings().fingerprint)
    store.store.put("in/1.csv", b"a\n2\n")
    prints.append(table_plan(tmp_path, dataset, run="3").folder.read_settings().fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("is_removed", [True, False])
def test_an_object_that_changes_while_plan_reads_it_is_an_error(tmp_path, store, suffix, is_removed):
    write_table(tmp_path / f"1.{suffix}", {"n": [1, 2, 3]})
    store.store.put(f"1.{suffix}", (tmp_path / f"1.{suffix}").read_bytes())

    def change():
        if is_removed:
            store.store.delete(f"1.{suffix}")
        else:
            store.store.put(f"1.{suffix}", (tmp_path / f"1.{suffix}").read_bytes())

    store.do_once_before("get", change)
    with pytest.raises(InputChangedError, match=rf"'{TOP}1\.{suffix}' (is gone|changed) while plan was reading"):
        table_plan(tmp_path, KINDS[suffix](f"{TOP}1.{suffix}"))


def test_a_footer_costs_one_request(store, tmp_path):
    table = pa.table({"n": range(100_000)})
    for number in range(20):
        file = io.BytesIO()
        pq.write_table(table, file, row_group_size=50_000, compression="none")
        store.store.put(f"in/{number:03}.parquet", file.getvalue())
    table_plan(tmp_path, TabularDataset.from_parquet_files(f"{TOP}in"))
    assert store.requests == {"head": 1, "list": 1, "page": 1, "get": 20}


def test_an_address_that_matches_nothing_is_an_empty_input(tmp_path, store):
    store.store.put("in/1.csv", b"a\n")
    for path in ("nothing", "in/*.png", "no/*", "in/1"):
        with pytest.raises(EmptyInputError, match=r"'s3://conn@bkt/.*' (matched no file|does not exist)"):
            table_plan(tmp_path, FileDataset(f"{TOP}{path}"))


def test_a_side_input_is_an_object_or_a_folder(store):
    store.store.put("model/weights", b"x")
    store.store.put("model/more/names", b"x")
    for path, expected in [("model", "model"), ("model/", "model"), ("model/wei*", "model/weights")]:
        found, listing = local_path(FileDataset(f"{TOP}{path}").to_source(), "/")
        assert found == f"{TOP}{expected}"
        assert all(one.startswith(found) for one in listing.paths)
    with pytest.raises(ConfigError, match="matches 2 files"):
        local_path(FileDataset(f"{TOP}mod*/**").as_named_input("m").to_source(), "/")
