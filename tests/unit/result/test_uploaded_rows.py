"""On object storage each commit uploads its rows as one object, and merge puts them together."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.result import rows_sources
from airflow_prs.result.rows import copy_rows, read_pieces
from airflow_prs.run_folder import rows_files
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.settings import RunSettings
from airflow_prs.store.memory import MemoryStore
from tests.makers import commit, make_config, make_identity, make_mini_batch, make_outcome, make_shards, open_attempt


def make_remote_folder(count, before=None):
    folder = RunFolder("s3://bucket/run")
    folder.store = MemoryStore(before)
    folder.write_settings(RunSettings(config=make_config(), identity=make_identity(), output="s3://bucket"))
    folder.write_manifest(map(make_mini_batch, range(count)), make_shards(count))
    return folder


def read_all(folder):
    committed = read_committed(folder, folder.read_manifest())
    [state] = committed.states
    committed.require_rows(state)
    out = io.BytesIO()
    copy_rows(committed, state, out)
    pieces = [piece if isinstance(piece, bytes) else piece.read() for piece in read_pieces(committed, state)]
    assert b"".join(pieces) == out.getvalue()
    return out.getvalue()


def size_of(index, large):
    return 3000 if index in large else 7 * (index % 5)


def rows_of(index, large):
    return bytes([index]) * size_of(index, large)


@settings(deadline=None)
@given(
    attempts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=4),
    order=st.permutations(range(40)),
    large=st.sets(st.integers(0, 39), max_size=3),
    limits=st.tuples(*[st.sampled_from([few, 1 << 20]) for few in (512, 1024, 100)]),
)
def test_rows_are_in_input_order_whoever_uploaded_them_when(attempts, order, large, limits):
    part, kept, request = limits
    with TemporaryDirectory() as local, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_sources, "_PART_BYTES", part)
        patch.setattr(rows_sources, "_KEPT_BYTES", kept)
        patch.setattr(rows_files, "_ONE_REQUEST_BYTES", request)
        folder, waiting = make_remote_folder(len(order)), list(order)
        for number, commits in enumerate(attempts, 1):
            attempt = open_attempt(folder, try_number=number, local=Path(local, str(number)))
            progress = None
            for taken in commits:
                indices, waiting = waiting[:taken], waiting[taken:]
                outcomes = [make_outcome(index) for index in indices]
                rows = {index: rows_of(index, large) for index in indices}
                progress = commit(attempt, outcomes, rows=rows, process=taken % 2, progress=progress)
        done = sorted(set(order) - set(waiting))
        assert read_all(folder) == b"".join(rows_of(index, large) for index in done)


def test_a_commit_with_rows_costs_two_requests(tmp_path):
    asked = []
    folder = make_remote_folder(4, lambda operation, key: asked.append((operation, key.partition("/")[2])))
    attempt = open_attempt(folder, local=tmp_path)
    asked.clear()
    commit(attempt, [make_outcome(0), make_outcome(1)], rows={0: b"one", 1: b"two"})
    assert [operation for operation, _ in asked] == ["put", "create"]


@pytest.fixture
def folder(tmp_path):
    folder = make_remote_folder(2)
    attempt = open_attempt(folder, local=tmp_path)
    progress = commit(attempt, [make_outcome(0)], rows={0: b"one"})
    commit(attempt, [make_outcome(1)], rows={1: b"two"}, progress=progress, closing=Closing.DONE)
    return folder


def objects_of(folder):
    return [key for key in folder.store.list("shards/") if "/rows/" in key]


def test_rows_that_are_gone_are_an_error_that_names_the_mini_batch(folder):
    folder.store.delete(objects_of(folder)[1:])
    with pytest.raises(DamagedError, match=r"rows of mini-batch 1 in s3://bucket/run are gone\. Clear the plan task"):
        read_all(folder)


def test_rows_that_vanish_while_they_are_read_are_an_error_that_names_the_object(tmp_path):
    def vanish(operation, key):
        if operation == "get" and "/rows/" in key:
            folder.store.delete([key])

    folder = make_remote_folder(1, vanish)
    commit(open_attempt(folder, local=tmp_path), [make_outcome(0)], rows={0: b"one"})
    with pytest.raises(DamagedError, match=r"mini-batch 0 cannot be read from memory/shards/.*/rows/.*: it is gone"):
        read_all(folder)


def test_changed_rows_are_an_error(folder):
    folder.store.put(objects_of(folder)[0], b"ONE")
    with pytest.raises(DamagedError, match="rows of mini-batch 0 are damaged"):
        read_all(folder)


def test_storage_that_does_not_answer_leaves_the_run_folder_in_use(tmp_path):
    def fail(operation, key):
        if operation == "get" and "/rows/" in key:
            raise TimeoutError("no answer within 5 seconds")

    folder = make_remote_folder(1, fail)
    commit(open_attempt(folder, local=tmp_path), [make_outcome(0)], rows={0: b"one"})
    with pytest.raises(RunFolderError, match=r"cannot be read from .*: no answer .* no mini-batch runs again") as error:
        read_all(folder)
    assert not isinstance(error.value, DamagedError)
