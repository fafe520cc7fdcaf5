"""A test can watch, stop and fail every operation of the store in memory."""

from __future__ import annotations

import pytest

from airflow_prs.store.memory import MemoryStore


def test_each_operation_is_announced_before_it_happens():
    seen = []

    def before(operation, key):
        seen.append((operation, key))

    store = MemoryStore(before)
    store.create("a", b"")
    store.put("a", b"")
    store.get("a")
    store.list("b/")
    store.stat("a")
    store.delete(["a", "b"])
    upload = store.new_upload("c")
    with store.writer("c", upload):
        seen.append("body")
    store.revoke("c", upload)
    assert seen == [
        ("create", "a"),
        ("put", "a"),
        ("get", "a"),
        ("list", "b/"),
        ("stat", "a"),
        ("delete", "a"),
        ("delete", "b"),
        ("new_upload", "c"),
        ("writer", "c"),
        "body",
        ("publish", "c"),
        ("revoke", "c"),
    ]


@pytest.mark.parametrize("failing", ["create", "put", "delete", "writer", "publish"])
def test_an_operation_that_fails_changes_nothing(failing):
    def before(operation, _key):
        if operation == failing and is_armed:
            raise OSError(failing)

    is_armed = False
    store = MemoryStore(before)
    store.put("a", b"one")
    is_armed = True

    def write():
        with store.writer("a") as out:
            out.write(b"two")

    act = {
        "create": lambda: store.create("b", b"two"),
        "put": lambda: store.put("a", b"two"),
        "delete": lambda: store.delete(["a"]),
        "writer": write,
        "publish": write,
    }[failing]
    with pytest.raises(OSError, match=failing):
        act()
    assert store.get("a") == b"one"
    assert list(store.list("")) == ["a"]
