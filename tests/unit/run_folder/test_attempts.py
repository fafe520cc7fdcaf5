"""Attempts take over what counts, and nothing else."""

from __future__ import annotations

import pytest

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.records import Progress, Ruling, Verdict
from airflow_prs.run_folder.attempt_records import Closing
from airflow_prs.store import files
from tests.makers import (
    commit,
    count,
    do_shard,
    make_failed_try,
    make_failure,
    make_folder,
    make_outcome,
    open_attempt,
    rows_of,
)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 5)


def shard_of(folder):
    return folder.read_manifest().shards[0]


def done(attempt) -> list[int]:
    return [index for index, is_done in enumerate(attempt.inheritance.done) if is_done]


def test_the_first_attempt_begins_with_nothing_done(folder):
    attempt = open_attempt(folder)
    attempt.close()
    assert done(attempt) == []
    assert attempt.inheritance.progress == Progress(total=5, items_total=10)
    assert (attempt.claim.predecessors, attempt.claim.set_aside) == ((), ())


def test_a_retry_takes_over_what_was_committed(folder):
    first = open_attempt(folder)
    commit(first, [make_outcome(3), make_failure(1)], [make_failed_try(1)], rows={3: rows_of(3)})
    first.close()
    second = open_attempt(folder, try_number=2)
    second.close()
    assert done(second) == [1, 3]
    progress = second.inheritance.progress
    assert (progress.succeeded, progress.failed, progress.items_failed) == (1, 1, 2)


def test_outcomes_after_the_last_commit_are_not_taken_over(folder):
    first = open_attempt(folder)
    commit(first, [make_outcome(0)], rows={0: rows_of(0)})
    first.close()
    with first.names.commits.open("ab") as file:
        file.write(b'{"outcomes": 2, "tries_by')
    second = open_attempt(folder, try_number=2)
    second.close()
    assert done(second) == [0]


def test_what_a_replaced_attempt_commits_is_void(folder):
    zombie = open_attempt(folder)
    before = commit(zombie, [make_outcome(0)], rows={0: rows_of(0)})
    second = open_attempt(folder, try_number=2)
    commit(zombie, [make_outcome(1)], rows={1: rows_of(1)}, progress=before)
    zombie.close()
    second.close()
    third = open_attempt(folder, try_number=3)
    third.close()
    assert done(third) == [0]
    assert folder.read_outcomes(shard_of(folder))["index"].tolist() == [0]


def test_a_replaced_attempt_sees_that_it_is_not_the_newest(folder):
    first = open_attempt(folder)
    assert first.is_newest()
    second = open_attempt(folder, try_number=2)
    assert (first.is_newest(), second.is_newest()) == (False, True)
    first.close()
    second.close()


def test_the_same_attempt_runs_once(folder):
    open_attempt(folder).close()
    with pytest.raises(SupersededError, match="already runs this attempt"):
        open_attempt(folder)


def test_an_attempt_older_than_the_newest_stops(folder):
    open_attempt(folder, try_number=2).close()
    with pytest.raises(SupersededError, match="a later attempt"):
        open_attempt(folder, try_number=1)
    assert folder.claims(shard_of(folder))[-1].try_number == 2


def test_the_tenth_try_is_newer_than_the_ninth(folder):
    for number in (9, 10):
        open_attempt(folder, try_number=number).close()
    assert folder.read_shard(shard_of(folder)).claim.try_number == 10


def test_failed_tries_are_taken_over_so_that_tries_are_not_counted_anew(folder):
    first = open_attempt(folder)
    tries = [make_failed_try(2, try_number=1, final=False), make_failed_try(2, try_number=2, final=False)]
    commit(first, [], tries)
    first.close()
    second = open_attempt(folder, try_number=2)
    second.close()
    assert second.inheritance.tries == {2: 2}
    assert second.inheritance.progress.failing == 1


# Clears


def test_a_clear_reopens_failed_mini_batches_and_no_others(folder):
    do_shard(folder, failed=[1, 4])
    cleared = open_attempt(folder, try_number=2, max_tries=7)
    cleared.close()
    assert done(cleared) == [0, 2, 3]
    assert cleared.inheritance.progress.failed == 0
    assert cleared.inheritance.tries == {}


def test_a_retry_reopens_nothing(folder):
    do_shard(folder, failed=[1, 4])
    retry = open_attempt(folder, try_number=2)
    retry.close()
    assert done(retry) == [0, 1, 2, 3, 4]


def test_a_retry_after_a_clear_does_not_reopen_what_failed_since(folder):
    do_shard(folder, failed=[1, 4])
    cleared = open_attempt(folder, try_number=2, max_tries=7)
    commit(cleared, [make_failure(4)], [make_failed_try(4)])
    cleared.close()
    retry = open_attempt(folder, try_number=3, max_tries=7)
    retry.close()
    assert done(retry) == [0, 2, 3, 4]


def test_a_clear_sets_the_standing_verdicts_aside_and_retries_inherit_that(folder):
    open_attempt(folder).close()
    verdict = Verdict(ruling=Ruling.ABORT, reason="too many")
    folder.write_verdict(verdict, author="gatekeeper", attempt="000001-a", counted={})
    retry = open_attempt(folder, try_number=2)
    cleared = open_attempt(folder, try_number=3, max_tries=7)
    again = open_attempt(folder, try_number=4, max_tries=7)
    for attempt in (retry, cleared, again):
        attempt.close()
    assert retry.claim.set_aside == ()
    assert cleared.claim.set_aside == again.claim.set_aside == ("gatekeeper-000001-a",)


def test_a_verdict_that_another_cleared_shard_was_fast_enough_to_write_is_not_set_aside(folder):
    open_attempt(folder).close()
    abort = Verdict(ruling=Ruling.ABORT, reason="too many")
    first = folder.write_verdict(abort, author="shard-00001", attempt="000001-a", counted={}).name
    later = folder.write_verdict(abort, author="shard-00001", attempt="000002-b", counted={}, set_aside=[first]).name
    cleared = open_attempt(folder, try_number=2, max_tries=7)
    cleared.close()
    assert cleared.claim.set_aside == (first,)
    cleared_again = open_attempt(folder, try_number=3, max_tries=9)
    cleared_again.close()
    assert cleared_again.claim.set_aside == (first, later)


def test_a_verdict_after_a_clear_is_not_set_aside(folder):
    open_attempt(folder).close()
    open_attempt(folder, try_number=2, max_tries=7).close()
    folder.write_verdict(Verdict(ruling=Ruling.ABORT), author="gatekeeper", attempt="000001-a", counted={})
    retry = open_attempt(folder, try_number=3, max_tries=7)
    retry.close()
    assert retry.claim.set_aside == ()


# Dead nodes


def test_what_a_dead_attempt_may_have_had_in_hand_is_suspect(folder):
    first = open_attempt(folder, window=3)
    first.close()
    second = open_attempt(folder, try_number=2, window=3)
    second.close()
    assert first.claim.granted == 3
    assert second.inheritance.suspects == (0, 1, 2)
    assert second.claim.granted == 3


def test_what_a_dead_attempt_finished_is_not_suspect(folder):
    first = open_attempt(folder)
    first.commit([make_outcome(1)], [], progress=count([make_outcome(1)]), granted=3)
    first.close()
    second = open_attempt(folder, try_number=2)
    second.close()
    assert second.inheritance.suspects == (0, 2)


@pytest.mark.parametrize("closing", list(Closing))
def test_an_attempt_that_closed_leaves_no_suspects(folder, closing):
    first = open_attempt(folder)
    commit(first, closing=closing)
    first.close()
    second = open_attempt(folder, try_number=2)
    second.close()
    assert second.inheritance.suspects == ()


def test_a_mini_batch_that_was_tried_alone_when_its_node_died_is_charged(folder):
    first = open_attempt(folder)
    first.commit([], [], progress=Progress(), granted=3, trying=(1, 2))
    first.close()
    second = open_attempt(folder, try_number=2)
    second.close()
    assert second.inheritance.charged == (1, 2)


# Commits that fail


def test_rows_that_cannot_be_made_durable_count_nothing(folder):
    attempt = open_attempt(folder)
    with pytest.raises(FileNotFoundError):
        attempt.commit([make_outcome(0)], [], progress=count([make_outcome(0)]), granted=5, processes=[7])
    attempt.close()
    assert folder.read_shard(shard_of(folder)).progress.done == 0


def test_an_attempt_whose_commit_failed_commits_no_more(folder, monkeypatch):
    attempt = open_attempt(folder)
    before = commit(attempt, [make_outcome(0)], rows={0: rows_of(0)})
    append = files.Appender.append

    def fail_half_way(self, data):
        append(self, data[: len(data) // 2])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(files.Appender, "append", fail_half_way)
        with pytest.raises(OSError, match="disk full"):
            commit(attempt, [make_outcome(1)], rows={1: rows_of(1)}, progress=before)
    with pytest.raises(RunFolderError, match="commits no more"):
        commit(attempt, [make_outcome(2)], rows={2: rows_of(2)}, progress=before)
    attempt.close()
    assert folder.read_outcomes(shard_of(folder))["index"].tolist() == [0]
