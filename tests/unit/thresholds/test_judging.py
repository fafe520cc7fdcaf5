"""A run's counts are gathered from its shards, as far as they bind whoever judges."""

from __future__ import annotations

import pytest

from airflow_prs.records import Limits, Progress, Ruling
from airflow_prs.thresholds.watch import Watch
from tests.makers import (
    commit,
    do_shard,
    make_failed_try,
    make_failure,
    make_folder,
    make_outcome,
    open_attempt,
    rows_of,
)

STRICT = Limits(error_threshold=0)


def watch(folder, limits=STRICT, *, set_aside=()):
    return Watch(
        folder=folder,
        manifest=folder.read_manifest(),
        limits=limits,
        author="gatekeeper",
        attempt="000001-a",
        set_aside=frozenset(set_aside),
    )


def judge(folder, limits=STRICT, *, set_aside=(), is_final=False):
    states = map(folder.read_shard, folder.read_manifest().shards)
    return watch(folder, limits, set_aside=set_aside).judge(states, is_final=is_final)


@pytest.fixture
def aborted(tmp_path):
    """Two shards with a failed mini-batch each, and the gatekeeper's verdict on them."""
    folder = make_folder(tmp_path, 2, 2)
    do_shard(folder, 0, failed=[0])
    do_shard(folder, 1, failed=[2])
    watch(folder).look()
    return folder


def test_counts_of_all_shards_add_up(tmp_path):
    folder = make_folder(tmp_path, 2, 3)
    do_shard(folder, 0, failed=[1])
    do_shard(folder, 1)
    progress = judge(folder).progress
    assert (progress.total, progress.succeeded, progress.failed) == (5, 4, 1)
    assert (progress.items_total, progress.items_succeeded, progress.items_failed) == (10, 8, 2)


def test_a_run_that_has_not_begun_goes_on(tmp_path):
    judgement = judge(make_folder(tmp_path, 2, 3))
    assert judgement.verdict.ruling is Ruling.GO_ON
    assert judgement.progress == Progress(total=5, items_total=10)
    assert judgement.counted == {}


def test_failures_of_different_shards_are_judged_together(tmp_path):
    folder = make_folder(tmp_path, 2, 2)
    do_shard(folder, 0, failed=[0])
    assert not judge(folder, Limits(error_threshold=2)).is_abort
    do_shard(folder, 1, failed=[2])
    assert judge(folder, Limits(error_threshold=2)).is_abort


def test_a_judgement_names_what_it_counted(tmp_path):
    folder = make_folder(tmp_path, 2, 2)
    do_shard(folder, 1)
    counted = judge(folder).counted
    assert list(counted) == [1]
    assert counted[1].attempt == "000001-task-1"
    assert counted[1].committed_bytes == (folder.attempts(folder.read_manifest().shards[1])[0].commits.stat().st_size)


def test_a_shard_that_was_not_cleared_does_not_count_in_mid_run_after_a_clear(aborted):
    assert judge(aborted).is_abort
    judgement = judge(aborted, set_aside=["gatekeeper-000001-a"])
    assert judgement.verdict.ruling is Ruling.GO_ON
    assert judgement.progress == Progress(total=4, items_total=8)


def test_every_shard_counts_when_none_can_run_any_more(aborted):
    assert judge(aborted, set_aside=["gatekeeper-000001-a"], is_final=True).is_abort


def test_a_cleared_shard_counts_what_it_did_not_reopen(aborted):
    open_attempt(aborted, 0, try_number=2, max_tries=7).close()
    judgement = judge(aborted, set_aside=["gatekeeper-000001-a"])
    assert (judgement.progress.succeeded, judgement.progress.failed) == (1, 0)
    assert list(judgement.counted) == [0]


def test_a_mini_batch_that_fails_again_after_a_clear_counts_again(aborted):
    attempt = open_attempt(aborted, 0, try_number=2, max_tries=7)
    commit(attempt, [make_failure(0)], [make_failed_try(0)])
    attempt.close()
    assert judge(aborted, set_aside=["gatekeeper-000001-a"]).is_abort


def test_mended_mini_batches_complete_the_run(aborted):
    for number in (0, 1):
        do_shard(aborted, number, try_number=2, max_tries=7)
    judgement = judge(aborted, set_aside=["gatekeeper-000001-a"])
    assert judgement.verdict.ruling is Ruling.COMPLETE


def test_a_verdict_that_is_written_binds_those_that_have_not_set_it_aside(aborted):
    manifest = aborted.read_manifest()
    standing = aborted.standing_verdict(manifest, set())
    assert standing is not None
    assert standing.verdict.reason == "4 of 8 items failed, error_threshold allows 0"
    assert aborted.standing_verdict(manifest, {standing.name}) is None


def test_what_a_zombie_commits_is_not_counted(tmp_path):
    folder = make_folder(tmp_path, 2)
    zombie = open_attempt(folder)
    open_attempt(folder, try_number=2).close()
    commit(zombie, [make_failure(0), make_outcome(1)], [make_failed_try(0)], rows={1: rows_of(1)})
    zombie.close()
    assert judge(folder).progress.done == 0
