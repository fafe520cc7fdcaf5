"""Failed tries are found by mini-batch."""

from __future__ import annotations

import pytest

from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.committed import read_committed
from tests.makers import commit, do_shard, make_failed_try, make_folder, open_attempt


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 5)


def index_of(folder):
    committed = read_committed(folder, folder.read_manifest())
    return committed.index_failed_tries(committed.states[0])


def test_the_tries_of_a_mini_batch_are_found_oldest_first_across_attempts(folder):
    tries = [make_failed_try(index, try_number=number) for number in (1, 2, 3) for index in (4, 0)]
    for number, part in ((1, tries[:3]), (2, tries[3:])):
        attempt = open_attempt(folder, try_number=number)
        commit(attempt, [], part)
        attempt.close()
    found = index_of(folder).find([4, 0])
    assert found == {4: tries[0::2], 0: tries[1::2]}


def test_mini_batches_that_were_not_asked_for_or_did_not_fail_are_left_out(folder):
    do_shard(folder, failed=[1, 3])
    assert list(index_of(folder).find([2, 3])) == [3]


def test_a_shard_without_failed_tries_has_none(folder):
    assert index_of(folder).find([0, 1]) == {}


def test_any_text_in_a_failed_try_is_read_back(folder):
    failed = make_failed_try(2, error='a, "b": {}', traceback="line\nline\r\n\u2028 Ω", items=("/a,b:c",))
    attempt = open_attempt(folder)
    commit(attempt, [], [failed, failed])
    attempt.close()
    assert index_of(folder).find([2]) == {2: [failed, failed]}


def test_a_damaged_line_is_found(folder):
    do_shard(folder, failed=[1])
    path = next(folder.path.glob("nodes/*/*/tries.jsonl"))
    path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(RunFolderError, match=f"{path} is damaged"):
        index_of(folder)
