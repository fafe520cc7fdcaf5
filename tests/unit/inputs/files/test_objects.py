"""Which objects an address stands for: the same as on a file system with the same names."""

import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.files import objects
from airflow_prs.inputs.files.listing import list_files
from tests.buckets import buckets_in_memory, upload


@pytest.fixture
def bucket():
    with buckets_in_memory("bkt") as buckets:
        yield buckets["bkt"]


def put(bucket, *keys):
    """Make objects; each holds its own key."""
    for key in keys:
        bucket.store.put(key, key.encode())


def list_in(patterns, top="s3://bkt/", **arguments):
    paths = [f"{top}{pattern}" for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
    return list_files(paths, base="/", **arguments)


def names(listing, top="s3://bkt/"):
    assert all(path.startswith(top) for path in listing.paths)
    return [path.removeprefix(top) for path in listing.paths]


SEGMENTS = ["a", "b", "a-", "a.csv", ".h", "_s", "k=1", "_k=2", "_parallel_run", "[a]", "ä", "a*", "B", "a!"]
keys = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map("/".join)
pattern_segments = st.sampled_from([*SEGMENTS, "*", "**", "?", "[ab]*", "*.csv", "a*", "a-*", "_*", ".*", "[!a]", "a?"])
patterns = st.builds(
    lambda parts, end: "/".join(parts) + end,
    st.lists(pattern_segments, min_size=1, max_size=4),
    st.sampled_from(["", "", "/"]),
)


def without_clashes(found):
    """Leave out what would be a file and a folder."""
    return [key for key in sorted(found) if not any(other.startswith(f"{key}/") for other in found)]


def listed(paths, are_tables):
    try:
        return list_files(paths, base="/", are_tables=are_tables)
    except InputError:
        return None


@settings(deadline=None, max_examples=60)
@given(
    st.sets(keys, max_size=12).map(without_clashes),
    st.lists(patterns, min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 3),
)
@example(["a-/b", "a/b", "a!/b"], ["a*/b", "a-*/*"], False, 1)
@example(["_parallel_run/a", "_parallel_run/b", "a", "_s/a", "_s/b"], ["*"], True, 1)
@example(["a"], ["a", "a/"], False, 1)
def test_objects_are_listed_as_files_are(found, chosen, are_tables, page):
    with (
        tempfile.TemporaryDirectory() as folder,
        buckets_in_memory("bkt") as buckets,
        pytest.MonkeyPatch.context() as p,
    ):
        p.setattr(objects, "_PAGE", page)
        Path(folder, "d").mkdir()
        for key in found:
            path = Path(folder, "d", key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(key)
        upload(Path(folder), buckets["bkt"])
        local = listed([f"{folder}/d/{one}" for one in chosen], are_tables)
        remote = listed([f"s3://bkt/d/{one}" for one in chosen], are_tables)
        if local is None:  # the parent of a path does not exist; in a bucket, nothing tells whether it should
            assert remote is None or remote.unmatched
            return
        assert remote is not None
        assert names(remote) == names(local, f"{folder}/")
        assert remote.sizes.tolist() == local.sizes.tolist()
        assert len(remote.unmatched) == len(local.unmatched)


def test_an_object_has_its_size_and_its_etag_as_version(bucket):
    put(bucket, "d/b", "d/a")
    listing = list_in("d")
    assert names(listing) == ["d/a", "d/b"]
    assert listing.sizes.tolist() == [3, 3]
    assert listing.versions(slice(None)).to_pylist() == [bucket.store.head(f"d/{name}")["e_tag"] for name in "ab"]


def test_files_and_objects_stand_in_one_list(bucket, tmp_path):
    put(bucket, "d/b", "d/a")
    (tmp_path / "1").write_text("x")
    listing = list_files(["s3://c@bkt/d", "1", "s3://bkt/*/a", "s3a://bkt/d/b"], base=str(tmp_path))
    assert [*listing.paths] == [str(tmp_path / "1"), *(f"s3://{top}bkt/d/{n}" for top in ("", "c@") for n in "ab")]
    etags = [bucket.store.head(f"d/{name}")["e_tag"] for name in "abab"]
    versions = [f"1-{(tmp_path / '1').stat().st_mtime_ns}", *etags]
    assert listing.versions(slice(None)).to_pylist() == versions
    without = listing.without(lambda path: path.endswith("a"))
    assert without.versions(slice(None)).to_pylist() == [versions[0], versions[2], versions[4]]
    assert without.digest() != listing.digest()
    without.require_unchanged()


@pytest.mark.parametrize(
    ("pattern", "found", "requests"),
    [
        ("d", 6000, {"head": 1, "list": 1, "page": 6}),
        ("d/", 6000, {"list": 1, "page": 6}),
        ("d/day=1/00001", 1, {"head": 1}),
        # For a glob, it must be known whether something has that very name.
        ("d/day=3*/*", 1000, {"list": 2, "page": 2}),
        ("d/day=0*/*", 1000, {"list": 2, "page": 2}),
        ("d/**/0000?", 60, {"list": 2, "page": 6}),
        # Folders in which nothing can match are left after one page.
        ("*/day=0/00001", 1, {"list": 8, "page": 8}),
    ],
)
def test_a_listing_needs_few_requests(bucket, pattern, found, requests):
    for day in range(6):
        put(bucket, *(f"d/day={day}/{number:05}" for number in range(1000)))
    put(bucket, "e/1", *(f".hidden/{number:05}" for number in range(3000)))
    bucket.requests.clear()
    assert len(list_in(pattern)) == found
    assert bucket.requests == requests


def test_a_folder_without_input_costs_two_pages(bucket):
    put(bucket, "a", *(f"_parallel_run/run/{number:05}" for number in range(9000)), "b")
    assert names(list_in("")) == ["a", "b"]
    assert bucket.requests["page"] <= 3


def test_objects_that_mark_folders_are_left_out(bucket):
    put(bucket, "d/a/x", "d/b")
    for key in ("d", "d/a", "d/empty/"):
        bucket.store.put(key, b"")
    assert names(list_in("d/**")) == ["d/a/x", "d/b", "d/empty"]  # in memory, the last one is a file


def test_an_empty_object_is_a_file_only_if_it_has_that_name(bucket):
    put(bucket, "d/b")
    bucket.store.put("d/marker", b"")
    bucket.store.put("d/file", b"")
    head = bucket.store.head
    bucket.head = lambda key: (_ for _ in ()).throw(FileNotFoundError) if key == "d/marker" else head(key)
    assert names(list_in("d")) == ["d/b", "d/file"]


def test_an_object_that_is_a_folder_too_is_refused(bucket):
    put(bucket, "d/a", "d/a/b")
    with pytest.raises(InputError, match=r"'s3://bkt/d/a' is an object, and also a folder"):
        list_in("d")
    assert names(list_in("d/a")) == ["d/a"]
    assert names(list_in("d/a/")) == ["d/a/b"]


@pytest.mark.parametrize("published", ["s3://bkt/d/result.txt", "s3://other@bkt/d/result.txt"])
def test_the_result_file_is_no_input(bucket, published):
    put(bucket, "d/result.txt", "d/a")
    for pattern in ("d", "d/*", ["d/a", "d/*.txt"]):
        assert names(list_in(pattern, published=published)) == ["d/a"]
    with buckets_in_memory("bkt", "elsewhere") as buckets:
        put(buckets["bkt"], "d/result.txt")
        assert names(list_in("d", published="s3://elsewhere/d/result.txt")) == ["d/result.txt"]


def test_what_is_below_nothing_says_so(bucket):
    put(bucket, "d/a", "t/_1.csv", "e/f/g")
    assert list_in("no/*").unmatched == ("'s3://bkt/no/*' matched no file: there is nothing in 's3://bkt/no'",)
    assert list_in("no").unmatched == ("'s3://bkt/no' does not exist",)
    assert "except objects in folders or with names that begin with '_'" in list_in("t", are_tables=True).unmatched[0]
    assert "only folders" in list_in("e/*").unmatched[0]
    with pytest.raises(InputError, match="'s3://bkt/no' does not exist"):
        list_in(["no", "d"])


def test_a_bucket_can_be_listed_as_a_whole(bucket):
    assert list_in("").unmatched == ("'s3://bkt/' matched no file",)
    put(bucket, "d/a", "b")
    for top in ("s3://bkt", "s3://bkt/", "s3://bkt/*", "s3://bkt/**"):
        assert len(list_files(top, base="/")) == (1 if top.endswith("/*") else 2)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("PermissionDeniedError", "'conn'|conn"),
        ("GenericError", "s3://conn@bkt"),
    ],
)
def test_storage_that_refuses_is_named_with_its_connection(bucket, error, message):
    import obstore.exceptions

    def refuse():
        raise getattr(obstore.exceptions, error)("GET https://x/?X-Amz-Signature=secret failed\n\nDebug source:\nmore")

    for method in ("head", "list"):
        bucket.do_once_before(method, refuse)
        with pytest.raises(StorageError, match=message) as found:
            list_in("d/" if method == "list" else "d", top="s3://conn@bkt/")
        assert "secret" not in str(found.value)


def test_an_error_leaves_no_threads(bucket):
    put(bucket, "d/a", "d/b")
    with pytest.raises(InputError) as found:
        list_files(["s3://bkt/d", "/no/such/file", "s3://bkt/d/b"], base="/")
    assert found
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name]
