"""Tables on object storage: a worker process reads from a sparse local copy what it would read from the file itself."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.node.input import parts
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.stager import Stager
from airflow_prs.node.processes.wire import order_of
from airflow_prs.node.work.queue import Assignment
from airflow_prs.worker.reading.load_errors import LoadError
from airflow_prs.worker.reading.readers import make_reader
from tests.buckets import bucket_in_memory
from tests.shards import Tries, read_rows
from tests.table_plans import KINDS, mini_batches, table_plan, write_table


@pytest.fixture
def bucket():
    with bucket_in_memory() as bucket:
        yield bucket


def move_to(bucket, result):
    """Put the files of a plan on a bucket, and return the mini-batches as a plan of these objects has them."""

    def moved(piece):
        key = piece.path.strip("/")
        if (path := Path(piece.path)).exists():
            bucket.store.put(key, path.read_bytes())
            path.unlink()
        return piece._replace(path=f"s3://conn@bucket/{key}", version=bucket.store.head(key)["e_tag"])

    found = list(result.folder.read_mini_batches(0, result.manifest.mini_batches))
    return [replace(each, pieces=tuple(map(moved, each.pieces))) for each in found]


def load_staged(tmp_path, result, planned, *, removes=True):
    """Stage mini-batches and load them as worker processes do."""
    specs = result.folder.read_settings().inputs
    readers = {s.name: make_reader({"name": s.name, "kind": s.kind.value, "options": dict(s.options)}) for s in specs}

    async def stage():
        changed = asyncio.Event()
        root = Path(tempfile.mkdtemp(dir=tmp_path)) / "input"
        stager = Stager(Places(root), specs, on_change=changed.set)
        loaded = []
        for mini_batch in planned:
            while (staged := stager.find(mini_batch)) is None:
                changed.clear()
                await changed.wait()
            assert staged.error == ""
            _, _, name, items, partition, pieces, versions = order_of(
                Assignment(mini_batch, 1, staged=staged), has_tables=True
            )
            loaded.append((partition, readers[name].load(pieces, items, versions)))
            stager.release(mini_batch.index) if removes else None
        stager.close()
        return loaded

    return asyncio.run(asyncio.wait_for(stage(), 30))


def assert_same(loaded, expected):
    assert len(loaded) == len(expected)
    for (partition, frame), (expected_partition, expected_frame) in zip(loaded, expected, strict=True):
        assert partition == expected_partition
        pd.testing.assert_frame_equal(frame, expected_frame)


def check(tmp_path, bucket, *datasets, **settings):
    """Check that staged mini-batches are the same as local ones, and return what was read of the bucket."""
    result = table_plan(tmp_path, *datasets, **settings)
    expected = mini_batches(result)
    assert_same(load_staged(tmp_path, result, move_to(bucket, result)), expected)
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_mini_batches_of_all_formats_are_the_same(tmp_path, bucket, kind):
    frame = {"n": range(9), "s": [f"text {n}" for n in range(9)], "c": pd.Categorical(list("ababcabab"))}
    for number in (1, 2):
        write_table(tmp_path / f"in/{number}.{kind}", frame)
    check(tmp_path, bucket, KINDS[kind]("in"), mini_batch_size="3 rows")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_keys_in_folders_are_read_from_the_address(tmp_path, bucket, kind):
    for key in ("a", "b"):
        write_table(tmp_path / f"in/k={key}/t.{kind}", {"n": [1, 2, 3]})
    check(tmp_path, bucket, KINDS[kind]("in"), mini_batch_size="2 rows")


def test_files_that_have_each_their_own_header(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(parts, "_HEADER_BYTES", 64)
    (tmp_path / "in").mkdir()
    many = [f"a column with a long name {number}" for number in range(30)]
    (tmp_path / "in/1.csv").write_text('# comment\n\n"a","b"\n' + "1,2\n" * 200)
    (tmp_path / "in/2.csv").write_text("b,a\n" + "3,4\n" * 200)
    (tmp_path / "in/3.csv").write_text(",".join(["a", "b", *many]) + "\n" + ("12," * 31 + "12\n") * 40)
    dataset = TabularDataset.from_delimited_files("in", header="each", comment="#", columns=["a", "b"])
    check(tmp_path, bucket, dataset, mini_batch_size="1KB")


def test_a_frame_with_an_index_that_pandas_counts(tmp_path, bucket):
    for suffix, write in (("parquet", pd.DataFrame.to_parquet), ("feather", None)):
        frame = pd.DataFrame({"n": range(10)}, index=pd.RangeIndex(100, 130, 3, name="number"))
        folder = tmp_path / suffix
        (folder / "in").mkdir(parents=True)
        path = folder / f"in/t.{suffix}"
        if write:
            frame.to_parquet(path, row_group_size=3)
        else:
            table = pa.Table.from_pandas(frame)
            with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
                writer.write_table(table, max_chunksize=3)
        check(folder, bucket, KINDS[suffix]("in"), mini_batch_size="2 rows")


def test_only_what_is_needed_is_read(tmp_path, bucket):
    rows = 400_000
    noise = np.random.default_rng(1).random((3, rows))
    frame = pa.table({"a": noise[0], "b": noise[1], "c": noise[2]})
    (tmp_path / "in").mkdir()
    pq.write_table(frame, tmp_path / "in/t.parquet", row_group_size=rows // 4)
    size = (tmp_path / "in/t.parquet").stat().st_size
    dataset = TabularDataset.from_parquet_files("in", columns=["b"])
    result = table_plan(tmp_path, dataset, mini_batch_size=f"{rows // 8} rows")
    planned = move_to(bucket, result)
    key = planned[0].pieces[0].path.partition("bucket/")[2]
    load_staged(tmp_path, result, planned[:2], removes=False)
    assert bucket.bytes_read(key) < size / 4 / 3 * 1.3 + 65536  # one column of one row group, and the footer
    before = len(bucket.log)
    load_staged(tmp_path, result, planned[2:4], removes=False)
    assert [kind for kind, *_ in bucket.log[before:]] == ["head", "get", "get"]


def test_a_csv_piece_is_read_alone_and_its_error_says_which_bytes(tmp_path, bucket):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t.csv").write_text("n\n" + "".join(f"{number:05}\n" for number in range(1000)))
    result = table_plan(tmp_path, TabularDataset.from_delimited_files("in"), mini_batch_size="100 rows")
    planned = move_to(bucket, result)
    key = planned[0].pieces[0].path.partition("bucket/")[2]
    ((_, frame),) = load_staged(tmp_path, result, planned[3:4])
    assert list(frame["n"]) == list(range(300, 400))
    assert bucket.bytes_read(key) == 600
    data = bytearray(bucket.store.get(key).bytes())
    data[3620:3625] = b"x" * 5
    bucket.store.put(key, bytes(data))
    broken = replace(planned[6], pieces=(planned[6].pieces[0]._replace(version=None),))
    with pytest.raises(LoadError, match=r"t\.csv \(bytes 3602 to 4202\): line 4 of these .*xxxxx"):
        load_staged(tmp_path, result, [broken])


def test_worker_processes_read_tables_from_sparse_copies(tmp_path, bucket):
    for key in ("a", "b"):
        write_table(tmp_path / f"in/k={key}/t.parquet", {"n": range(8)})
    (tmp_path / "score.py").write_text(
        "def run(mini_batch):\n    return [f'{k} {n}' for k, n in zip(mini_batch['k'], mini_batch['n'])]\n"
    )
    result = table_plan(
        tmp_path, TabularDataset.from_parquet_files("in"), mini_batch_size="3 rows", node_count=1,
        process_count_per_node=2,
    )  # fmt: skip
    planned = move_to(bucket, result)
    result.folder.write_manifest(planned, result.manifest.shards)
    Tries(result.folder).run()
    assert read_rows(result.folder) == [f"{key} {n}" for key in "ab" for n in range(8)]
