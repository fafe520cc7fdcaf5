"""The layout of a run, on each store: whoever proposes a revision gets the one that counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.layout import Layout
from airflow_prs.store.memory import MemoryStore


def test_the_first_proposal_counts_for_all(store):
    first, second = Layout(store), Layout(store)
    assert first.newest() == (-1, b"")
    assert first.propose(0, b"one") == (0, b"one")
    assert second.propose(0, b"two") == (0, b"one")
    assert store.get("layout/000000") == b"one"
    assert second.propose(1, b"two") == (1, b"two")
    assert first.propose(1, b"three") == first.newest() == (1, b"two")


def test_who_knows_nothing_gets_the_newest_revision_in_one_answer(store):
    for number in range(12):
        Layout(store).propose(number, b"%d" % number)
    assert Layout(store).propose(0, b"") == Layout(store).propose(0, b"mine") == (11, b"11")


def test_to_look_creates_nothing(store):
    layout = Layout(store)
    assert layout.propose(0, b"") == (-1, b"")
    layout.propose(0, b"one")
    assert layout.propose(1, b"") == (0, b"one")
    assert list(store.list("")) == ["layout/000000"]


def test_what_is_known_is_answered_without_the_store():
    operations = []
    layout = Layout(MemoryStore(lambda operation, key: operations.append((operation, key))))
    layout.propose(0, b"one")
    assert [layout.propose(0, b"two") for _ in range(9)] == [(0, b"one")] * 9
    assert operations == [("create", "layout/000000")]


def test_a_folder_of_another_version_is_read_beside_what_a_killed_process_has_left(tmp_path):
    (tmp_path / "layout").mkdir()
    for name in ("999999", "1000000", f".{'0' * 32}.tmp"):
        (tmp_path / "layout" / name).write_bytes(name.encode())
    assert RunFolder(tmp_path).layout().newest() == (1000000, b"1000000")


class LaggingStore(MemoryStore):
    """Shows neither new keys nor what they hold before it was asked some times, as NFS may."""

    blind = 3

    def get(self, key, start=None, end=None):
        self.blind -= 1
        return None if self.blind >= 0 else super().get(key, start, end)

    def list(self, prefix, after=None):
        self.blind -= 1
        return [] if self.blind >= 2 else super().list(prefix, after)


def test_a_revision_that_the_storage_does_not_show_yet_is_waited_for():
    store, waits = LaggingStore(), []
    Layout(store).propose(0, b"one")
    assert Layout(store, sleep=waits.append).propose(0, b"two") == (0, b"one")
    assert waits


def test_a_revision_that_the_storage_never_shows_is_named():
    store, waits = LaggingStore(), []
    Layout(store).propose(0, b"one")
    store.blind = 1000
    with pytest.raises(RunFolderError, match=r"layout/000000 exists, but cannot be seen .* On NFS, mount with"):
        Layout(store, sleep=waits.append).propose(0, b"two")
    assert sum(waits) >= 90


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=1))))
def test_whoever_asks_in_whatever_order_gets_what_is_stored_and_gets_on(questions):
    store = MemoryStore()
    nodes, known = [Layout(store) for _ in range(3)], [-1] * 3
    for node, content in questions:
        number, got = nodes[node].propose(known[node] + 1, content)
        assert number > known[node] or (not content and number == known[node])
        assert got == (store.get(f"layout/{number:06d}") or b"")
        known[node] = number
    assert [int(key[-6:]) for key in store.list("layout/")] == list(range(max(known) + 1))
