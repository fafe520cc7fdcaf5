"""A plan is written whole, and read back as it was written."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_right
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError
from airflow_prs.inputs.mini_batches import batches_of
from airflow_prs.records import Manifest, Piece
from airflow_prs.run_folder import manifest as manifests
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.posix import PosixStore
from tests.makers import make_mini_batch, make_shards


def write(store, mini_batches, *counts):
    return manifests.write_manifest(store, batches_of(mini_batches), make_shards(*counts))


@pytest.fixture
def store():
    return MemoryStore()


def test_totals_and_shards_are_read_back(store):
    written = write(store, map(make_mini_batch, range(5)), 3, 2)
    assert manifests.read_manifest(store) == written
    assert written == Manifest(mini_batches=5, items=10, size_bytes=500, shards=tuple(make_shards(3, 2)))


pieces = st.builds(
    Piece,
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    begin=st.none() | st.integers(0, 2**62),
    end=st.none() | st.integers(0, 2**62),
    row_group=st.none() | st.integers(0, 1000),
    row=st.none() | st.integers(1, 2**62),
    line=st.none() | st.integers(1, 2**62),
)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1) | st.just("moment")
values = st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.datetimes() | st.none() | st.booleans()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(pieces=st.lists(pieces).map(tuple), partition=st.none() | st.dictionaries(names, values, min_size=1, max_size=4))
def test_a_mini_batch_is_read_back_as_it_was_written(store, pieces, partition):
    mini_batch = make_mini_batch(0, pieces=pieces, partition=partition)
    write(store, [mini_batch], 1)
    assert list(manifests.read_mini_batches(store, 0, 1)) == [mini_batch]


def test_dates_decimals_and_moments_of_zones_stay_what_they_are(store):
    partition = {
        "day": date(2024, 2, 29),
        "price": Decimal("1.10"),
        "at": datetime.fromisoformat("2024-01-01T05:00+02:00"),
        "none": None,
        "limit": float("inf"),
        "large": 2**63 - 1,
    }
    write(store, [replace(make_mini_batch(0), partition=partition)], 1)
    (found,) = manifests.read_mini_batches(store, 0, 1)
    assert found.partition == partition
    assert str(found.partition["price"]) == "1.10"


def test_a_moment_stays_a_moment_and_a_key_named_moment_a_key(store):
    partition = {"moment": "2024-01-01", "day": datetime.fromisoformat("2024-01-01T05:00")}
    write(store, [make_mini_batch(0, partition=partition)], 1)
    [read] = manifests.read_mini_batches(store, 0, 1)
    assert read.partition == partition


@pytest.mark.parametrize(("first", "end"), [(0, 7), (0, 3), (2, 5), (3, 7), (6, 7), (4, 4)])
def test_any_stretch_of_mini_batches_is_read_in_order(store, first, end):
    write(store, map(make_mini_batch, range(7)), 3, 4)
    assert [m.index for m in manifests.read_mini_batches(store, first, end)] == list(range(first, end))
    assert manifests.read_item_counts(store, first, end) == [2] * (end - first)


@pytest.mark.parametrize("indices", [[], [0], [2, 3], [1, 4, 6]])
def test_some_mini_batches_are_read_in_order(store, indices):
    write(store, map(make_mini_batch, range(7)), 3, 4)
    assert [m.index for m in manifests.select_mini_batches(store, indices)] == indices


def test_shards_larger_than_a_row_group_are_read_whole(store):
    write(store, map(make_mini_batch, range(9000)), 8500, 500)
    assert [m.index for m in manifests.read_mini_batches(store, 8190, 8510)] == list(range(8190, 8510))


def test_no_row_group_belongs_to_two_shards(store):
    write(store, map(make_mini_batch, range(9003)), 8500, 500, 3)
    file = pq.ParquetFile(store.reader("manifest.parquet"))
    groups = [file.read_row_group(n, columns=["index"])["index"].to_pylist() for n in range(file.num_row_groups)]
    assert [index for group in groups for index in group] == list(range(9003))
    shards = [[bisect_right([8500, 9000], index) for index in group] for group in groups]
    assert all(shard[0] == shard[-1] for shard in shards)


def test_a_plan_without_mini_batches_can_be_read(store):
    write(store, [])
    assert manifests.read_manifest(store).mini_batches == 0
    assert list(manifests.read_mini_batches(store, 0, 0)) == []


@pytest.mark.parametrize("given_count", [2, 4])
def test_other_mini_batches_than_the_shards_name_are_refused(store, given_count):
    with pytest.raises(RunFolderError):
        write(store, map(make_mini_batch, range(given_count)), 3)
    assert store.list("") == []


def test_mini_batches_of_two_inputs_are_read_back(store):
    mini_batches = [replace(make_mini_batch(index), input="one" if index < 2 else "two") for index in range(4)]
    write(store, mini_batches, 3, 1)
    assert list(manifests.read_mini_batches(store, 0, 4)) == mini_batches


def test_mini_batches_out_of_order_are_refused(store):
    with pytest.raises(RunFolderError):
        write(store, [make_mini_batch(1), make_mini_batch(2)], 2)


def test_a_manifest_that_cannot_be_seen_says_what_to_do(store):
    with pytest.raises(RunFolderError, match="storage that all nodes share"):
        manifests.read_manifest(store)


def test_a_damaged_manifest_says_what_to_do(store):
    store.put("manifest.parquet", b"PAR1 not at all")
    with pytest.raises(RunFolderError, match="Clear the plan task"):
        manifests.read_manifest(store)


@pytest.mark.parametrize(("layout", "error"), [(0, "an older version.*Clear the plan task"), (99, "a newer version")])
def test_a_manifest_of_another_version_is_refused(store, monkeypatch, layout, error):
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "SCHEMA", layout)
        write(store, [make_mini_batch(0)], 1)
    with pytest.raises(RunFolderError, match=error):
        manifests.read_manifest(store)


def test_a_partition_value_that_cannot_be_written_is_refused(store):
    with pytest.raises(TypeError, match="text, a number, a date, a datetime or a Decimal"):
        write(store, [replace(make_mini_batch(0), partition={"user": object()})], 1)


READS_MINI_BATCHES = """
import sys
from pydantic import TypeAdapter
built = []
made = TypeAdapter.__init__
TypeAdapter.__init__ = lambda self, kind, *args, **named: built.append(kind) or made(self, kind, *args, **named)
from airflow_prs.node import running
from airflow_prs.run_folder import manifest
from airflow_prs.store.posix import PosixStore
print(built, 'pyarrow' in sys.modules)
print(len(list(manifest.read_mini_batches(PosixStore(sys.argv[1]), 1, 3))))
print(sorted({'pandas', 'pyarrow.compute'} & set(sys.modules)))
"""


def test_a_node_imports_only_what_it_needs_to_begin(tmp_path):
    write(PosixStore(tmp_path), map(make_mini_batch, range(5)), 3, 2)
    command = [sys.executable, "-c", READS_MINI_BATCHES, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[] False", "2", "[]"]
