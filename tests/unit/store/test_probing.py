"""A storage that does not keep the promise of ``create`` is refused by name."""

from __future__ import annotations

import errno
import os

import pytest

from airflow_prs.errors import RunFolderError, StorageRefusedError
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.posix import PosixStore
from airflow_prs.store.probing import probe_store


class Replacing(MemoryStore):
    """It ignores the condition, as some object servers do."""

    def create(self, key, data):
        self.put(key, data)
        return True


class Forgetful(MemoryStore):
    """It keeps nothing."""

    def get(self, key, start=None, end=None):
        return None


class Refusing(MemoryStore):
    """It says that every key exists."""

    def create(self, key, data):
        return False


def test_a_store_that_keeps_its_promise_passes_and_keeps_nothing(store):
    store.create("a/b", b"one")
    for prefix in "", "a/", "c/d/":
        probe_store(store, prefix)
    assert list(store.list("")) == ["a/b"]


@pytest.mark.parametrize(
    ("make", "reason"), [(Replacing, "replaced a file"), (Forgetful, "did not return"), (Refusing, "a new key exists")]
)
def test_a_store_that_does_not_is_refused(make, reason):
    store = make()
    with pytest.raises(RunFolderError, match=f"^memory cannot hold run folders: .*{reason}.* Choose as output"):
        probe_store(store, "a/")
    assert list(store.list("")) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_mount_without_hard_links_is_refused(tmp_path, monkeypatch, number):
    def no_links(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(RunFolderError, match=f"^{tmp_path} cannot hold run folders: it has no hard links"):
        probe_store(PosixStore(tmp_path), "a/")
    assert list((tmp_path / "a").iterdir()) == []


def test_an_error_of_object_storage_names_the_store_and_not_a_key_of_ours():
    def deny(operation, key):
        error = StorageRefusedError(f"memory/{key}: access denied")
        error.code = "AccessDenied"
        raise error

    with pytest.raises(StorageRefusedError, match=r"^memory: access denied$") as caught:
        probe_store(MemoryStore(deny), "a/")
    assert caught.value.code == "AccessDenied"


def test_other_problems_of_the_storage_stay_what_they_are(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        probe_store(PosixStore(tmp_path), "")
