"""Which objects an address stands for: the same as on a file system with the same names."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.files import objects
from airflow_prs.inputs.files.listing import list_files
from tests.buckets import CountingStore, buckets_in_memory, upload


@pytest.fixture
def store():
    with buckets_in_memory() as stores:
        yield stores.setdefault("bkt", CountingStore())


def names(listing, root="s3://bkt/"):
    return [path.removeprefix(root) for path in listing.paths]


def put(store, *keys):
    for key in keys:
        store.store.put(key, key.encode())


def list_in(pattern, **arguments):
    return list_files([f"s3://bkt/{one}" for one in ([pattern] if isinstance(pattern, str) else pattern)], base="/", **arguments)


segments = st.sampled_from(["a", "b", "a-", "a.csv", ".h", "_s", "k=1", "_k=2", "_parallel_run", "[a]", "ä", "a*", "B"])
keys = st.lists(segments, min_size=1, max_size=4).map("/".join)
pattern_segments = st.one_of(segments, st.sampled_from(["*", "**", "?", "[ab]*", "*.csv", "a*", "_*", ".*", "[!a]", "a?"]))
patterns = st.builds(
    lambda parts, end: "/".join(parts) + end, st.lists(pattern_segments, min_size=1, max_size=4), st.sampled_from(["", "/"])
)


def without_clashes(found):
    """Leave out what would be a file and a folder."""
    return [key for key in found if not any(other.startswith(f"{key}/") for other in found)]


@settings(deadline=None, max_examples=100)
@given(st.sets(keys, max_size=12).map(sorted).map(without_clashes), st.lists(patterns, min_size=1, max_size=3), st.booleans(), st.integers(1, 3))
@example(["a-/b", "a/b"], ["a*/b"], False, 1)
@example(["_parallel_run/a", "a", "_s/a", "_s/b"], ["*"], True, 1)
def test_objects_are_listed_as_files_are(found, chosen, are_tables, page):
    with tempfile.TemporaryDirectory() as folder, buckets_in_memory() as stores, pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_PAGE", page)
        for key in found:
            path = Path(folder, "d", key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(key)
        Path(folder, "d").mkdir(exist_ok=True)
        connect = stores.setdefault("bkt", CountingStore())
        upload(Path(folder), connect.store)
        try:
            local = list_files([f"{folder}/d/{one}" for one in chosen], base="/", are_tables=are_tables)
        except InputError:
            local = None
        try:
            remote = list_in([f"d/{one}" for one in chosen], are_tables=are_tables)
        except InputError:
            assert local is None
            return
        if local is None:  # a parent that does not exist: there are no folders in a bucket
            assert remote.unmatched
            return
        assert names(remote) == names(local, f"{folder}/")
        assert remote.sizes.tolist() == local.sizes.tolist()
        assert len(remote.unmatched) == len(local.unmatched)
