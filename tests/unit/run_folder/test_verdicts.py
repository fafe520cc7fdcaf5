"""A verdict binds whoever has not set it aside, unless what it counted is void."""

from __future__ import annotations

import pytest

from airflow_prs.records import Ruling, Verdict
from airflow_prs.run_folder.attempt_records import Link
from tests.makers import commit, make_failed_try, make_failure, make_folder, open_attempt

ABORT = Verdict(ruling=Ruling.ABORT, threshold="error_threshold", limit=0, count=2, reason="2 of 10 items failed")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 3, 2)


def write(folder, *, author="gatekeeper", attempt="000001-a", counted=None, verdict=ABORT):
    return folder.write_verdict(verdict, author=author, attempt=attempt, counted=counted or {})


def standing(folder, set_aside=()):
    return folder.standing_verdict(folder.read_manifest(), set(set_aside))


def open_gatekeeper(folder, try_number=1, max_tries=2, task_instance_id="ti"):
    return folder.open_gatekeeper(try_number=try_number, task_instance_id=task_instance_id, max_tries=max_tries)


def test_without_a_verdict_nothing_stands(folder):
    assert standing(folder) is None


def test_a_verdict_is_read_back_as_it_was_written(folder):
    written = write(folder, counted={0: Link(attempt="000001-task-1", committed_bytes=0)})
    open_attempt(folder).close()
    assert standing(folder) == written


def test_the_first_verdict_of_an_author_and_attempt_stands(folder):
    first = write(folder)
    second = write(folder, verdict=Verdict(ruling=Ruling.ABORT, reason="another"))
    assert second == first
    assert standing(folder) == first


def test_the_oldest_of_several_verdicts_stands(folder):
    first = write(folder, author="host-1-1")
    write(folder, author="gatekeeper")
    assert standing(folder) == first


def test_a_verdict_that_was_set_aside_does_not_stand(folder):
    first = write(folder)
    assert standing(folder, [first.name]) is None
    second = write(folder, attempt="000002-b")
    assert standing(folder, [first.name]) == second


def test_a_verdict_that_counted_what_was_taken_over_stands(folder):
    attempt = open_attempt(folder)
    commit(attempt, [make_failure(0)], [make_failed_try(0)])
    attempt.close()
    written = write(folder, counted={0: folder.read_shard(folder.read_manifest().shards[0]).chain[-1]})
    open_attempt(folder, try_number=2).close()
    assert standing(folder) == written


def test_a_verdict_that_counted_a_void_commit_binds_nobody(folder):
    zombie = open_attempt(folder)
    open_attempt(folder, try_number=2).close()
    commit(zombie, [make_failure(0)], [make_failed_try(0)])
    zombie.close()
    size = zombie.names.commits.stat().st_size
    write(folder, counted={0: Link(attempt=zombie.claim.attempt, committed_bytes=size)})
    assert standing(folder) is None


def test_a_verdict_that_counted_an_attempt_which_is_void_binds_nobody(folder):
    open_attempt(folder, try_number=2).close()
    write(folder, counted={0: Link(attempt="000001-other", committed_bytes=10)})
    assert standing(folder) is None


# The gatekeeper's claims


def test_a_try_of_the_gatekeeper_that_is_executed_again_keeps_its_claim(folder):
    first = open_gatekeeper(folder)
    write(folder)
    assert open_gatekeeper(folder) == first
    assert first.set_aside == ()


def test_a_retry_of_the_gatekeeper_is_bound_by_what_stands(folder):
    open_gatekeeper(folder)
    write(folder)
    assert open_gatekeeper(folder, try_number=2).set_aside == ()


def test_a_cleared_gatekeeper_sets_aside_what_stands_and_its_retries_inherit_that(folder):
    open_gatekeeper(folder)
    name = write(folder).name
    cleared = open_gatekeeper(folder, try_number=2, max_tries=4)
    later = write(folder, attempt="000002-b").name
    retry = open_gatekeeper(folder, try_number=3, max_tries=4)
    assert cleared.set_aside == retry.set_aside == (name,)
    assert standing(folder, retry.set_aside).name == later


def test_a_second_clear_sets_aside_the_later_verdicts_too(folder):
    open_gatekeeper(folder)
    names = [write(folder).name]
    open_gatekeeper(folder, try_number=2, max_tries=4)
    names.append(write(folder, attempt="000002-b").name)
    assert open_gatekeeper(folder, try_number=3, max_tries=6).set_aside == tuple(sorted(names))


def test_the_first_try_of_a_gatekeeper_sets_nothing_aside(folder):
    write(folder, author="host-0-1")
    assert open_gatekeeper(folder).set_aside == ()
