"""What it costs to look at a run, and what a reader keeps."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_prs.live.actions import describe_actions
from airflow_prs.live.reading import RunReader
from airflow_prs.live.storage_threads import StorageThreads, UnreadableError
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.steering.orders import abort, change_limits
from airflow_prs.store.posix import PosixStore
from tests.makers import do_shard, make_folder, open_attempt

STATES = {
    "score.mini_batches": {0: "success", 1: "running"},
    "score.gatekeeper": {-1: "running"},
    "score.merge": {-1: None},
}


@pytest.fixture
def folder(tmp_path):
    """A run of two shards, one of which is done; its limits were changed, and it was drained."""
    folder = make_folder(tmp_path, 2, 2, error_threshold=9)
    do_shard(folder, 0, failed=[1])
    open_attempt(folder, 1)
    change_limits(folder, {"error_threshold": 8}, "ann")
    abort(folder, AbortKind.DRAIN, "ann")
    return folder


@pytest.fixture
def reader(folder):
    return RunReader(
        str(folder.path), folder.open_task_log().read().newest_execution(), connect=print, threads=StorageThreads()
    )


@pytest.fixture
def reads(monkeypatch):
    """How often each file is read from now on."""
    counts = Counter()
    get = PosixStore.get

    def counting(store, key, *place):
        data = get(store, key, *place)
        if data is not None:
            counts[f"{store}/{key}"] += 1
        return data

    monkeypatch.setattr(PosixStore, "get", counting)
    return counts


def test_a_look_reads_each_file_once(folder, reader, reads):
    shown = reader.read()
    assert (shown.settings.config.error_threshold, shown.abort.author, len(shown.changes)) == (8, "ann", 2)
    assert max(reads.values()) == 1


def test_all_actions_together_read_each_file_once(folder, reads):
    actions = describe_actions(folder, "score", STATES, clear_number=None)
    assert {name for name, action in actions.items() if action["can"]} == {"retry", "limits", "cancel"}
    assert set(actions) == {"retry", "resume", "publish", "limits", "drain", "cancel"}
    assert (max(reads.values()), sum("/log/" in path for path in reads) > 0) == (1, True)


def test_a_run_that_cannot_be_steered_says_why_at_each_action(tmp_path):
    folder = make_folder(tmp_path, 2, settings={"reused_from": "/out/earlier"})
    actions = describe_actions(folder, "score", STATES, clear_number=None)
    assert {(each["can"], "the result of /out/earlier again" in each["why"]) for each in actions.values()} == {
        (False, True)
    }


def test_pages_of_failures_that_were_used_last_are_kept(folder, reader, reads):
    reader.read()

    def costs(offset):
        reads.clear()
        assert reader.failures(offset, 1).total == 1
        return bool(reads)

    assert [costs(offset) for offset in range(8)] == [True] * 8
    assert not costs(0)
    assert costs(8)
    assert [costs(0), costs(1)] == [False, True]


def test_a_folder_that_is_gone_is_no_run_that_has_not_begun(folder, reader):
    reader.read()
    reader.expire()
    folder.path.rename(folder.path.with_name("gone"))
    with pytest.raises(UnreadableError, match="cannot be seen from this machine"):
        reader.read()
