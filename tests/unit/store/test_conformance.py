"""Every adapter does what the port says."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from airflow_prs.errors import SupersededError
from tests.object_servers import SERVERS
from tests.stores import STORES

ODD_KEYS = [
    "a b/c d",
    "100%/%2F%00",
    "ключ/数/😀",
    "x" * 200,
    "y" * 200 + "/" + "z" * 200,
    "数" * 66,
    "a/.hidden",
    "a/.b.tmp",
    "a/..b",
    "a/b\\c",
    "a/line\nbreak",
    "a/?#&+=~$'\"*",
]
BAD_KEYS = ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "a/./b", "a\0b", f"a/.b.{'0' * 32}.tmp"]


def write(store, key, upload, steps):
    """Write a stream; the steps are bytes, and calls to do between them."""
    with store.writer(key, upload) as out:
        for step in steps:
            out.write(step) if isinstance(step, bytes) else step()


def test_a_new_key_is_created(store):
    assert store.create("a/b", b"one")
    assert store.get("a/b") == b"one"


def test_to_create_a_key_with_the_same_bytes_again_succeeds(store):
    assert store.create("a/b", b"one")
    assert store.create("a/b", b"one")
    assert store.get("a/b") == b"one"


@pytest.mark.parametrize("other", [b"two", b"", b"on", b"one more"])
def test_a_key_with_other_bytes_is_not_created(store, other):
    assert store.create("a/b", b"one")
    assert not store.create("a/b", other)
    assert store.get("a/b") == b"one"


def test_an_empty_key_exists(store):
    assert store.create("a", b"")
    assert not store.create("a", b"one")
    assert store.get("a") == b""
    assert store.stat("a").size == 0
    assert list(store.list("")) == ["a"]


def test_a_key_that_was_put_is_not_created(store):
    store.put("a", b"one")
    assert not store.create("a", b"two")
    assert store.create("a", b"one")


def test_a_deleted_key_can_be_created_with_other_bytes(store):
    store.create("a", b"one")
    store.delete(["a"])
    assert store.create("a", b"two")
    assert store.get("a") == b"two"


def test_of_many_threads_one_creates_a_key(store):
    threads, keys = 8, [f"log/{number}" for number in range(30)]
    barrier = Barrier(threads)

    def create_all(thread):
        barrier.wait()
        return [key for key in keys if store.create(key, b"%d" % thread)]

    with ThreadPoolExecutor(threads) as pool:
        won = list(pool.map(create_all, range(threads)))
    assert Counter(key for one in won for key in one) == dict.fromkeys(keys, 1)
    for thread, one in enumerate(won):
        for key in one:
            assert store.get(key) == b"%d" % thread


def test_of_many_threads_with_the_same_bytes_all_succeed(store):
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: store.create("a/b", b"same"), range(40)))
    assert list(store.list("")) == ["a/b"]


def test_a_missing_key_is_none(store):
    store.create("a/b", b"one")
    for key in "c", "a/c", "c/d", "a":
        assert store.get(key) is None
        assert store.get(key, 1, 2) is None
        assert store.stat(key) is None


def test_what_is_put_replaces(store):
    store.put("a/b", b"a longer one")
    store.put("a/b", b"short")
    assert store.get("a/b") == b"short"


def test_a_copy_holds_what_its_source_held(store):
    store.put("a/b", b"old")
    store.put("c/d", b"other")
    for _ in range(2):
        store.copy("a/b", "c/d")
    store.copy("a/b", "e/f")
    store.put("a/b", b"new")
    assert [store.get(key) for key in ("a/b", "c/d", "e/f")] == [b"new", b"old", b"old"]
    assert store.list("") == ["a/b", "c/d", "e/f"]


def test_a_copy_of_nothing_changes_nothing(store):
    store.put("c/d", b"other")
    with pytest.raises(FileNotFoundError):
        store.copy("a/b", "c/d")
    assert store.list("") == ["c/d"]
    assert store.get("c/d") == b"other"


@pytest.mark.parametrize("start", [None, 0, 1, 9, 10, 11])
@pytest.mark.parametrize("end", [None, 0, 1, 5, 9, 10, 11, 1 << 20])
def test_a_range_is_that_of_the_bytes(store, start, end):
    data = b"0123456789"
    store.put("a", data)
    assert store.get("a", start, end) == data[start:end]


def test_a_list_is_sorted_and_has_every_level(store):
    keys = ["a/b/c", "a/b-c", "a/b0", "a/b/d/e", "a-b/c", "b/10", "b/9", "ü/x", "z/😀", "z/\uffff"]
    for key in reversed(keys):
        store.create(key, b"")
    assert list(store.list("")) == sorted(keys)
    assert list(store.list("a/b/")) == ["a/b/c", "a/b/d/e"]
    assert list(store.list("a/")) == ["a/b-c", "a/b/c", "a/b/d/e", "a/b0"]


def test_a_prefix_ends_where_a_part_ends(store):
    for key in "a/1/x", "a/10/x", "a/2":
        store.create(key, b"")
    assert list(store.list("a/1/")) == ["a/1/x"]
    assert list(store.list("a/2/")) == []
    assert list(store.list("b/")) == []


def test_a_list_begins_after_a_key(store):
    for key in "a/1", "a/2/x", "a/3", "b/0":
        store.create(key, b"")
    assert list(store.list("a/", after="a/2")) == ["a/2/x", "a/3"]
    assert list(store.list("a/", after="a/2/x")) == ["a/3"]
    assert list(store.list("a/", after="a/3")) == []
    assert list(store.list("", after="")) == list(store.list(""))


def test_a_list_holds_only_what_is_complete(store):
    upload = store.new_upload("a/b")
    with store.writer("a/b", upload) as out, store.writer("c/d") as other:
        out.write(b"x")
        other.write(b"x")
        out.flush()
        assert list(store.list("")) == []
    assert list(store.list("")) == ["a/b", "c/d"]


def test_the_version_changes_whenever_the_content_does(store):
    versions = []
    for number in range(5):
        store.put("a", b"abc%d" % number)
        assert store.stat("a") == store.stat("a")
        assert store.stat("a").size == 4
        versions.append(store.stat("a").version)
    with store.writer("a") as out:
        out.write(b"abcd")
    versions.append(store.stat("a").version)
    assert all(one != next_one for one, next_one in pairwise(versions))


def test_missing_keys_are_deleted_without_an_error(store):
    for key in "a/1", "a/2", "a/3":
        store.create(key, b"")
    store.delete(key for key in ["a/1", "a/missing", "missing/a", "a/1/x", "a", "a/3"])
    assert list(store.list("")) == ["a/2"]
    store.delete([])


def test_a_stream_appears_on_a_clean_exit(store):
    with store.writer("a/b") as out:
        out.write(b"one ")
        out.flush()
        out.write(b"two")
        assert store.get("a/b") is None
    assert store.get("a/b") == b"one two"


def test_a_stream_replaces_what_was_there(store):
    store.put("a", b"a longer one")
    with store.writer("a") as out:
        out.write(b"short")
        out.flush()
        assert store.get("a") == b"a longer one"
    assert store.get("a") == b"short"


def test_a_stream_may_be_closed_by_who_writes_it(store):
    with store.writer("a") as out:
        out.write(b"one")
        out.close()
    assert store.get("a") == b"one"


def test_a_stream_of_many_bytes_is_whole(store):
    parts = [bytes([number]) * 3_000_000 for number in range(5)]
    with store.writer("a") as out:
        for part in parts:
            out.write(part)
    assert store.get("a") == b"".join(parts)


@pytest.mark.parametrize("error", [ValueError("broken"), FileNotFoundError("input"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_named", [True, False])
def test_a_stream_leaves_nothing_on_an_exception(store, error, is_named):
    store.put("a", b"earlier")
    upload = store.new_upload("a") if is_named else None

    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        write(store, "a", upload, [b"later", fail])
    assert raised.value is error
    assert store.get("a") == b"earlier"


def test_an_upload_with_a_name_appears(store):
    with store.writer("a/b", store.new_upload("a/b")) as out:
        out.write(b"one")
    assert store.get("a/b") == b"one"


def test_names_of_uploads_are_unique(store):
    assert len({store.new_upload("a/b") for _ in range(50)}) == 50


def test_an_upload_that_was_revoked_before_it_was_begun_does_not_appear(store):
    upload = store.new_upload("a")
    store.revoke("a", upload)
    with pytest.raises(SupersededError, match="later merge has taken over a,"):
        write(store, "a", upload, [b"one"])
    assert store.get("a") is None


def test_an_upload_that_is_revoked_while_it_is_written_does_not_appear(store):
    store.put("a", b"earlier")
    upload = store.new_upload("a")
    with pytest.raises(SupersededError, match="later merge has taken over a,"):
        write(store, "a", upload, [b"one", lambda: store.revoke("a", upload), b"two"])
    assert store.get("a") == b"earlier"
    assert list(store.list("")) == ["a"]


def test_an_upload_that_has_appeared_stays_when_it_is_revoked(store):
    upload = store.new_upload("a")
    with store.writer("a", upload) as out:
        out.write(b"one")
    store.revoke("a", upload)
    store.revoke("a", upload)
    assert store.get("a") == b"one"


def test_the_name_of_an_upload_is_used_once(store):
    upload = store.new_upload("a")
    write(store, "a", upload, [b"one"])
    with pytest.raises(SupersededError):
        write(store, "a", upload, [b"two"])
    assert store.get("a") == b"one"


def test_an_error_of_who_writes_a_revoked_upload_stays_what_it_is(store):
    upload = store.new_upload("a")

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write(store, "a", upload, [lambda: store.revoke("a", upload), fail])


def test_to_revoke_one_upload_leaves_the_others(store):
    first, second = store.new_upload("a"), store.new_upload("a")
    with store.writer("a", second) as out:
        out.write(b"second")
        store.revoke("a", first)
    assert store.get("a") == b"second"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_kept_as_they_are(store, key):
    assert store.create(key, b"one")
    assert not store.create(key, b"two")
    assert list(store.list("")) == [key]
    assert store.get(key) == b"one"
    store.put(key, b"three")
    with store.writer(key, store.new_upload(key)) as out:
        out.write(b"four")
    store.revoke(key, store.new_upload(key))
    assert store.stat(key).size == 4
    assert list(store.list(key.rpartition("/")[0] + "/" if "/" in key else "")) == [key]
    store.delete([key])
    assert list(store.list("")) == []


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused(store, key):
    operations = [
        lambda: store.create(key, b""),
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.stat(key),
        lambda: store.delete([key]),
        lambda: store.new_upload(key),
        lambda: store.writer(key).__enter__(),
        lambda: store.revoke(key, store.new_upload("a")),
    ]
    for operation in operations:
        with pytest.raises(ValueError, match="is not a key"):
            operation()
    assert list(store.list("")) == []


@pytest.mark.parametrize("prefix", ["a", "ab", "a/b", "/", "a//", "../", "/a/", "a/../"])
def test_bad_prefixes_are_refused(store, prefix):
    with pytest.raises(ValueError, match="is not a"):
        store.list(prefix)


PARTS = ["a", "b", "a-b", "10", "1", "数"]
KEYS = st.sampled_from([f"{one}/f{two}" for one in PARTS for two in PARTS] + [f"k{one}" for one in PARTS])
DATA = st.binary(max_size=20)
POSITION = st.none() | st.integers(0, 25)


class LikeADict(RuleBasedStateMachine):
    """
    A store beside a dict; they answer alike.

    :cvar keeps_blocks: whether it is Azurite. That refuses to create a blob of which there are only blocks that nobody
        has committed, though it also says that there is no such blob. No key of a run is ever written in both ways.
    """

    make = None
    keeps_blocks = False

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = self.make(Path(self.folder.name, "store"))
        self.held = {}
        self.begun = set()

    def teardown(self):
        self.folder.cleanup()

    @rule(key=KEYS, data=DATA)
    def create(self, key, data):
        if self.keeps_blocks and key in self.begun and key not in self.held:
            return
        assert self.store.create(key, data) == (self.held.setdefault(key, data) == data)

    @rule(key=KEYS, data=DATA)
    def put(self, key, data):
        before = self.store.stat(key)
        self.store.put(key, data)
        assert self.store.stat(key) != before or self.held[key] == data
        self.held[key] = data

    @rule(key=KEYS, data=st.lists(DATA), is_named=st.booleans())
    def stream(self, key, data, is_named):
        upload = self.store.new_upload(key) if is_named else None
        write(self.store, key, upload, data)
        if is_named:
            self.store.revoke(key, upload)
        self.held[key] = b"".join(data)

    @rule(key=KEYS, data=DATA)
    def stream_in_vain(self, key, data):
        upload = self.store.new_upload(key)
        with pytest.raises(SupersededError):
            write(self.store, key, upload, [data, lambda: self.store.revoke(key, upload)])
        self.begun.add(key)

    @rule(key=KEYS, start=POSITION, end=POSITION)
    def get(self, key, start, end):
        held = self.held.get(key)
        assert self.store.get(key, start, end) == (None if held is None else held[start:end])

    @rule(key=KEYS)
    def stat(self, key):
        stat = self.store.stat(key)
        assert (None if stat is None else stat.size) == (len(self.held[key]) if key in self.held else None)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete(self, keys):
        self.store.delete(keys)
        for key in keys:
            self.held.pop(key, None)

    @rule(prefix=st.sampled_from(["", "c/", *(f"{part}/" for part in PARTS)]), after=st.none() | KEYS)
    def list(self, prefix, after):
        expected = sorted(key for key in self.held if key.startswith(prefix) and (after is None or key > after))
        assert [*self.store.list(prefix, after)] == expected

    @invariant()
    def holds_the_same(self):
        assert {key: self.store.get(key) for key in self.store.list("")} == self.held


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SERVERS else ()) for name in STORES]
)
def test_a_store_is_like_a_dict(name):
    machine = type("LikeADictIn", (LikeADict,), {"make": staticmethod(STORES[name]), "keeps_blocks": name == "azurite"})
    # With a server, to shrink a failure takes minutes, and one that comes from its load ends as "flaky".
    phases = [Phase.reuse, Phase.generate, *([] if name in SERVERS else [Phase.shrink])]
    limits = settings(max_examples=25, stateful_step_count=25, deadline=None, phases=phases, print_blob=True)
    run_state_machine_as_test(machine, settings=limits)


def test_a_reader_reads_any_place_of_a_key(store):
    store.put("a/b", bytes(range(256)) * 10)
    with store.reader("a/b") as file:
        assert file.seek(-3, io.SEEK_END) == 2557
        assert file.read() == b"\xfd\xfe\xff"
        assert file.seek(256) == 256
        assert file.read(3) == b"\0\1\2"
        assert file.read(0) == b""
        file.seek(5000)
        assert file.read() == b""


def test_a_key_that_does_not_exist_has_no_reader(store):
    with pytest.raises(FileNotFoundError):
        store.reader("a/b")


def test_folders_are_the_next_parts_of_keys(store):
    for key in ("a", "b/c", "b/d/e", "b/d/f", "g/h/i", "g j/k", "b%/x/y"):
        store.put(key, b"")
    assert store.list_folders("") == ["b", "b%", "g", "g j"]
    assert store.list_folders("b/") == ["d"]
    assert store.list_folders("b%/") == ["x"]
    assert store.list_folders("nothing/") == []


def test_what_was_written_now_was_modified_now(store):
    store.put("a", b"one")
    assert abs(store.stat("a").modified - time.time()) < 60


def test_a_scan_finds_what_a_list_does_with_sizes_and_times(store):
    begun = time.time()
    for size, key in enumerate(["a/b/c", "a/b-c", "b", "ü/x y"]):
        store.create(key, b"x" * size)
    found = {each.key: each for each in store.scan("")}
    assert sorted(found) == list(store.list(""))
    assert [found[key].size for key in ("a/b/c", "a/b-c", "b", "ü/x y")] == [0, 1, 2, 3]
    assert all(begun - 60 < each.modified < time.time() + 60 for each in found.values())
    assert sorted(each.key for each in store.scan("a/")) == ["a/b-c", "a/b/c"]
    assert list(store.scan("c/")) == []


def test_a_deleted_folder_is_gone_and_its_neighbours_are_not(store):
    for key in "a/1/x", "a/1/y/z", "a/10", "a/2/x":
        store.create(key, b"")
    store.delete_folder("a/1/")
    store.delete_folder("a/1/")
    assert list(store.list("")) == ["a/10", "a/2/x"]
    store.delete_folder("")
    assert list(store.list("")) == []


def test_unfinished_uploads_are_found_and_discarded(store):
    uploads = {key: store.new_upload(key) for key in ("a/one", "a/b/two")}
    with store.writer("a/done") as out:
        out.write(b"x")

    def find(prefix="a/", before=math.inf, *, is_recursive=True):
        return list(store.find_unfinished(prefix, before, is_recursive=is_recursive))

    if not find():
        pytest.skip("this storage forgets them by itself")
    assert len(find()) == 2
    assert len(find(is_recursive=False)) == 1
    assert find("c/") == find(before=1) == []
    for unfinished in find("a/b/"):
        store.discard(unfinished)
        store.discard(unfinished)
    assert len(find()) == 1
    with pytest.raises(SupersededError):
        write(store, "a/b/two", uploads["a/b/two"], [b"late"])
    write(store, "a/one", uploads["a/one"], [b"one"])
    assert find() == []
    assert list(store.list("")) == ["a/done", "a/one"]


def test_the_size_of_an_unfinished_upload_is_that_of_its_parts(store):
    upload = store.new_upload("a")
    with suppress(ZeroDivisionError), store.writer("a", upload) as out:
        for _ in range(40):
            out.write(b"x" * (1 << 20))
        out.flush()
        found = list(store.find_unfinished("", time.time() + 60, is_recursive=True))
        assert all(each.size >= 0 for each in found)
        raise ZeroDivisionError
    assert list(store.find_unfinished("", time.time() + 60, is_recursive=True)) == []
