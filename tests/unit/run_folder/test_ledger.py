"""What counts of a shard is read from its newest claim; damage is never passed over."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError
from airflow_prs.records import Progress, TryStatus
from airflow_prs.run_folder import ledger
from airflow_prs.run_folder.attempt_records import Commit
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


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 5)


@pytest.fixture
def shard(folder):
    return folder.read_manifest().shards[0]


def names_of(folder, shard, attempt=-1):
    return folder.attempts(shard)[attempt]


def test_a_shard_that_nobody_began_has_no_outcomes(folder, shard):
    state = folder.read_shard(shard)
    assert (state.claim, state.chain, state.granted) == (None, (), 0)
    assert state.progress == Progress(total=5, items_total=10)
    assert len(folder.read_outcomes(shard)) == 0


def test_an_attempt_that_is_about_to_claim_changes_nothing(folder, shard):
    do_shard(folder)
    before = folder.read_shard(shard)
    (folder.names.shard(shard) / "000002-task-2").mkdir()
    assert folder.read_shard(shard) == before


def test_outcomes_are_sorted_by_index_whenever_they_were_committed(folder, shard):
    attempt = open_attempt(folder)
    progress = commit(attempt, [make_outcome(4), make_outcome(2)])
    commit(attempt, [make_outcome(3), make_outcome(0)], progress=progress)
    attempt.close()
    assert folder.read_outcomes(shard)["index"].tolist() == [0, 2, 3, 4]


def test_an_outcome_is_read_back_as_it_was_committed(folder, shard):
    outcome = make_outcome(
        3, status=TryStatus.RUN_DONE, tries=2, returned=9, process=4, offset=2**40, length=7, crc=2**32 - 1
    )
    attempt = open_attempt(folder)
    attempt.commit([outcome], [], progress=Progress(), granted=0)
    attempt.close()
    [read] = folder.read_outcomes(shard)
    assert {name: read[name] for name in ledger.outcome_type().names} == {
        name: getattr(outcome, name) for name in ledger.outcome_type().names
    }


def test_an_outcome_names_the_attempt_that_has_its_rows(folder, shard):
    first = open_attempt(folder)
    commit(first, [make_outcome(1)], rows={1: rows_of(1)})
    first.close()
    second = open_attempt(folder, try_number=2)
    commit(second, [make_outcome(0)], rows={0: rows_of(0)})
    second.close()
    outcomes = folder.read_outcomes(shard)
    paths = [folder.attempts(shard)[outcome["attempt"]].rows(outcome["process"]) for outcome in outcomes]
    assert [path.read_bytes() for path in paths] == [rows_of(0), rows_of(1)]


def test_a_mini_batch_that_succeeds_after_a_clear_has_one_outcome(folder, shard):
    do_shard(folder, failed=[2])
    do_shard(folder, try_number=2, max_tries=7)
    outcomes = folder.read_outcomes(shard)
    assert outcomes["index"].tolist() == [0, 1, 2, 3, 4]
    assert (outcomes["status"] == TryStatus.RUN_DONE).all()


def test_a_progress_tells_the_same_as_the_outcomes(folder, shard):
    do_shard(folder, failed=[2])
    outcomes, progress = folder.read_outcomes(shard), folder.read_shard(shard).progress
    assert progress.done == len(outcomes)
    assert progress.failed == (outcomes["status"] != TryStatus.RUN_DONE).sum()
    assert progress.items_succeeded == outcomes["succeeded"].sum()


# Torn tails and damage


def commits_of(count):
    return [
        Commit(outcomes=n, tries_bytes=0, crc=0, progress=Progress(total=count, succeeded=n), granted=0)
        for n in range(1, count + 1)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    count=st.integers(0, 40), cut=st.integers(0, 10_000), junk=st.binary(max_size=20).filter(lambda b: b"\n" not in b)
)
def test_the_last_whole_line_of_a_torn_log_counts(tmp_path, count, cut, junk):
    lines = [ledger.COMMIT.dump_json(line) + b"\n" for line in commits_of(count)]
    data = b"".join(lines)[:cut]
    path = tmp_path / "commits.jsonl"
    path.write_bytes(data + junk)
    whole = data.count(b"\n")
    read, end = ledger.last_commit(path, None)
    assert (read.outcomes if read else 0) == whole
    assert end == len(b"".join(lines[:whole]))


def test_a_line_longer_than_what_is_read_at_first_is_found(tmp_path):
    path = tmp_path / "commits.jsonl"
    line = ledger.COMMIT.dump_json(commits_of(1)[0])
    path.write_bytes(line + b"\n" + b"x" * 50_000)
    assert ledger.last_commit(path, None) == (commits_of(1)[0], len(line) + 1)


def test_a_log_counts_only_as_far_as_it_was_taken_over(tmp_path):
    path = tmp_path / "commits.jsonl"
    lines = [ledger.COMMIT.dump_json(line) + b"\n" for line in commits_of(3)]
    path.write_bytes(b"".join(lines))
    read, end = ledger.last_commit(path, len(lines[0]) + len(lines[1]))
    assert read is not None
    assert (read.outcomes, end) == (2, len(lines[0]) + len(lines[1]))


def test_damaged_outcomes_are_found(folder, shard):
    do_shard(folder)
    path = names_of(folder, shard).outcomes
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match=f"{path} is damaged"):
        folder.read_outcomes(shard)


def test_outcomes_that_lost_their_end_are_found(folder, shard):
    do_shard(folder)
    path = names_of(folder, shard).outcomes
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunFolderError, match=f"{path} is damaged"):
        folder.read_outcomes(shard)


def test_outcomes_after_the_last_commit_are_ignored(folder, shard):
    do_shard(folder)
    with names_of(folder, shard).outcomes.open("ab") as file:
        file.write(b"torn")
    assert len(folder.read_outcomes(shard)) == 5


def test_a_damaged_line_inside_a_log_is_found(folder, shard):
    do_shard(folder)
    path = names_of(folder, shard).commits
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"?" * (len(lines[0]) - 1) + b"\n", *lines[1:]]))
    with pytest.raises(RunFolderError, match="damaged"):
        folder.read_outcomes(shard)


# Failed tries


def test_failed_tries_are_read_back_in_the_order_of_their_commits(folder, shard):
    tries = [make_failed_try(index, try_number=number, final=number == 2) for number in (1, 2) for index in (3, 1)]
    attempt = open_attempt(folder)
    commit(attempt, [], tries[:3])
    commit(attempt, [make_failure(1), make_failure(3)], tries[3:])
    attempt.close()
    assert list(folder.read_failed_tries(shard)) == tries


def test_failed_tries_before_a_clear_do_not_count(folder, shard):
    do_shard(folder, failed=[1])
    open_attempt(folder, try_number=2, max_tries=7).close()
    assert list(folder.read_failed_tries(shard)) == []


def test_failed_tries_that_were_not_committed_do_not_count(folder, shard):
    do_shard(folder, failed=[1])
    with names_of(folder, shard).tries.open("ab") as file:
        file.write(ledger.FAILED_TRY.dump_json(make_failed_try(2)) + b"\n")
    assert [failed.index for failed in folder.read_failed_tries(shard)] == [1]


def test_failed_tries_that_lost_their_end_are_found(folder, shard):
    do_shard(folder, failed=[1, 2])
    path = names_of(folder, shard).tries
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunFolderError, match=f"{path} is damaged"):
        list(folder.read_failed_tries(shard))
