"""What a file system adds: processes that race or are killed, and the answers of NFS."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.store import files
from airflow_prs.store.posix import PosixStore

KEYS = [f"log/{number:03d}" for number in range(100)]

RACER = """
import sys
from airflow_prs.store.posix import PosixStore
store = PosixStore(sys.argv[1])
print("ready", flush=True)
input()
for number in range(100):
    key = f"log/{number:03d}"
    if store.create(key, sys.argv[2].encode() * 1000):
        print(key)
"""

CREATOR = """
import sys
from itertools import count
from airflow_prs.store.posix import PosixStore
store = PosixStore(sys.argv[1])
for number in count():
    store.create(f"{sys.argv[2]}/{number}", b"x" * 2_000_000)
    store.put("replaced", b"%d" % (number % 10) * 2_000_000)
    if not number:
        print("begun", flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return PosixStore(tmp_path / "store")


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_of_many_processes_one_creates_a_key(store):
    racers = [start(RACER, store, name) for name in "abcd"]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    won = {name: racer.communicate()[0].split() for name, racer in zip("abcd", racers, strict=True)}
    assert Counter(key for keys in won.values() for key in keys) == dict.fromkeys(KEYS, 1)
    for name, keys in won.items():
        for key in keys:
            assert store.get(key) == name.encode() * 1000
    assert names_in(Path(str(store), "log")) == [Path(key).name for key in KEYS]


def test_a_process_that_is_killed_leaves_whole_keys_only(store):
    delays = random.Random(1)
    for child in range(8):
        creator = start(CREATOR, store, child)
        assert creator.stdout.readline() == "begun\n"
        time.sleep(delays.uniform(0, 0.03))
        creator.send_signal(signal.SIGKILL)
        creator.communicate()
    keys = store.list("")
    assert len(keys) > 8
    for key in keys:
        data = store.get(key)
        assert len(data) == 2_000_000
        assert not data.strip(data[:1])


@pytest.mark.parametrize("call", ["fsync", "link", "unlink"])
@pytest.mark.parametrize("is_done", [True, False])
def test_a_creation_that_stops_at_any_call_can_be_repeated(store, monkeypatch, call, is_done):
    original = getattr(os, call)

    def stop(*arguments, **options):
        if is_done:
            original(*arguments, **options)
        raise OSError(errno.EIO, "stopped")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, stop)
        with pytest.raises(OSError, match="stopped"):
            store.create("a/b", b"one")
    assert store.get("a/b") in {None, b"one"}
    assert store.create("a/b", b"one")
    assert store.get("a/b") == b"one"
    assert list(store.list("")) == ["a/b"]


def test_what_is_created_put_or_written_is_durable_with_its_folders(store, monkeypatch):
    synced = []
    fsync = os.fsync

    def note(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    root = str(store)
    monkeypatch.setattr(os, "fsync", note)
    assert store.create("a/b/c", b"one")
    assert {str(Path(root).parent), root, f"{root}/a"} <= set(synced)
    for write in (
        lambda: store.create("a/b/d", b"one"),
        lambda: store.put("a/b/e", b"one"),
        lambda: store.put("a/b/e", b"two"),
    ):
        synced.clear()
        write()
        file, folder = synced
        assert files.is_temporary(Path(file).name)
        assert folder == f"{root}/a/b"
    synced.clear()
    assert store.create("a/b/c", b"one")
    assert synced[-1] == f"{root}/a/b"


def test_a_link_whose_first_answer_was_lost_succeeds(store, monkeypatch):
    link = os.link

    def replayed(*arguments, **options):
        link(*arguments, **options)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", replayed)
    assert store.create("a", b"one")
    assert store.create("a", b"one")
    assert not store.create("a", b"two")
    assert store.get("a") == b"one"


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "missing"), OSError(errno.ETIMEDOUT, "no answer")])
def test_a_rename_whose_first_answer_was_lost_succeeds(store, monkeypatch, error):
    replace = Path.replace

    def replayed(path, target):
        replace(path, target)
        raise error

    monkeypatch.setattr(Path, "replace", replayed)
    store.put("a", b"one")
    with store.writer("a", store.new_upload("a")) as out:
        out.write(b"two")
    assert store.get("a") == b"two"


def test_an_upload_that_is_revoked_just_before_its_rename_is_superseded(store, monkeypatch):
    fsync = os.fsync

    def revoked(descriptor):
        fsync(descriptor)
        store.revoke("a", upload)

    def write():
        with store.writer("a", upload) as out:
            out.write(b"later")

    store.put("a", b"earlier")
    upload = store.new_upload("a")
    monkeypatch.setattr(os, "fsync", revoked)
    with pytest.raises(SupersededError):
        write()
    assert store.get("a") == b"earlier"


def test_files_of_one_size_and_time_differ_in_their_version(store):
    versions = set()
    for data in b"one", b"two":
        store.put("a", data)
        os.utime(Path(str(store), "a"), ns=(1, 1))
        versions.add(store.stat("a").version)
    assert len(versions) == 2


def test_a_revoked_upload_whose_file_has_gone_stale_is_superseded(store):
    upload = store.new_upload("a")

    def write():
        with store.writer("a", upload):
            store.revoke("a", upload)
            raise OSError(errno.ESTALE, "Stale file handle")

    with pytest.raises(SupersededError):
        write()


@pytest.mark.parametrize("numbers", [[errno.ESTALE], [errno.ESTALE] * 2, [errno.EIO]])
def test_a_file_that_was_replaced_while_it_was_read_is_read_once_more(store, monkeypatch, numbers):
    store.put("a", b"one")
    original, answers = os.open, [OSError(number, "no answer") for number in numbers]

    def stale(path, *arguments, **options):
        if path == "a" and answers:
            raise answers.pop()
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", stale)
    if numbers == [errno.ESTALE]:
        assert store.get("a") == b"one"
    else:
        with pytest.raises(OSError, match="no answer"):
            store.get("a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def test_problems_of_the_storage_stay_what_they_are(store, monkeypatch, number):
    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    def write_upload():
        with store.writer("a", upload):
            pass

    store.put("a", b"earlier")
    upload = store.new_upload("a")
    monkeypatch.setattr(os, "fsync", fail)
    for write in lambda: store.create("b", b"one"), lambda: store.put("a", b"one"), write_upload:
        with pytest.raises(OSError, match=re.escape(os.strerror(number))) as raised:
            write()
        assert raised.value.errno == number
    assert store.get("a") == b"earlier"
    assert store.get("b") is None


def test_nothing_is_left_after_an_error(store):
    def write(upload, error):
        with store.writer("a/b", upload) as out:
            out.write(b"one")
            raise error

    for error in ValueError, OSError, KeyboardInterrupt:
        for name in None, store.new_upload("a/b"):
            with pytest.raises(error):
                write(name, error)
    upload = store.new_upload("a/b")
    store.revoke("a/b", upload)
    store.create("a/c", b"")
    store.create("a/c", b"other")
    assert names_in(Path(str(store), "a")) == ["c"]


def test_a_folder_in_the_way_of_a_key_is_an_error(store):
    store.create("a/b", b"")
    for write in store.create, store.put:
        with pytest.raises(OSError, match="a"):
            write("a", b"")
        with pytest.raises(OSError, match="b"):
            write("a/b/c", b"")
    assert list(store.list("")) == ["a/b"]


@pytest.mark.parametrize("upload", ["c", "../c", f"../.c.{'0' * 32}.tmp", "", ".c.tmp"])
def test_no_other_file_is_taken_for_an_upload(store, upload):
    store.put("a/c", b"one")
    store.put("c", b"one")
    with pytest.raises(ValueError, match="is not the name of an upload"):
        store.revoke("a/b", upload)
    with pytest.raises(ValueError, match="is not the name of an upload"):
        store.writer("a/b", upload).__enter__()
    assert list(store.list("")) == ["a/c", "c"]


def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = PosixStore("store")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.create("a", b"one")
    assert (tmp_path / "store" / "a").read_bytes() == b"one"


def test_a_folder_is_opened_before_a_file_is_looked_for(store, monkeypatch):
    opened = []
    original = os.open

    def note(path, *arguments, **options):
        opened.append(str(path))
        return original(path, *arguments, **options)

    store.create("a/b", b"one")
    monkeypatch.setattr(os, "open", note)
    store.stat("a/missing")
    store.get("a/missing")
    assert opened == [f"{store}/a", f"{store}/a", "missing"]


def test_a_deleted_folder_leaves_nothing(tmp_path):
    store = PosixStore(tmp_path / "store")
    store.put("a/b/c", b"x")
    store.new_upload("a/b/d")
    store.delete_folder("a/")
    assert list((tmp_path / "store").iterdir()) == []
