"""Merge publishes a run's rows in input order, whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import IncompleteRunError, PublicationError, RunAbortedError, RunFolderError, SupersededError
from airflow_prs.records import Ruling, Verdict
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.merges import Merge
from airflow_prs.run_folder.run_log import Abort, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.run_folder.task_log import Published
from airflow_prs.store.files import temporary_name
from tests.makers import (
    append_execution,
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

RESULT = "parallel_run_step.txt"


def published(output) -> bytes:
    return (output / RESULT).read_bytes()


def files_in(output) -> list[str]:
    return sorted(path.name for path in output.iterdir() if path.is_file())


def all_rows(*indices: int) -> bytes:
    return b"".join(map(rows_of, indices))


def damage(folder: RunFolder, process: int = 0) -> str:
    path = next(folder.path.glob(f"shards/*/rows/*-{process:03d}.bin"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return str(path)


def test_rows_stand_in_input_order_whichever_process_finished_first(tmp_path):
    folder = make_folder(tmp_path, 9)
    do_shard(folder)
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(9))


def test_shards_follow_each_other(tmp_path):
    folder = make_folder(tmp_path, 3, 4, 2)
    for number in (2, 0, 1):
        do_shard(folder, number)
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(9))


def test_the_location_is_the_published_file(tmp_path):
    folder = make_folder(tmp_path, 2, append_row_file_name="scores.txt")
    do_shard(folder)
    assert merge_run(folder).location == str(tmp_path / "scores.txt")
    assert (tmp_path / "scores.txt").read_bytes() == all_rows(0, 1)


def test_failed_mini_batches_within_the_limits_have_no_rows(tmp_path):
    folder = make_folder(tmp_path, 5, error_threshold=4)
    do_shard(folder, failed=[1, 3])
    merge_run(folder)
    assert published(tmp_path) == all_rows(0, 2, 4)


def test_rows_of_a_retry_join_those_before_it(tmp_path):
    folder = make_folder(tmp_path, 6)
    first = open_attempt(folder)
    commit(first, [make_outcome(4), make_outcome(1)], rows={4: rows_of(4), 1: rows_of(1)})
    do_shard(folder, try_number=2)
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(6))


def test_what_a_zombie_commits_after_it_was_replaced_is_not_published(tmp_path):
    folder = make_folder(tmp_path, 4)
    zombie = open_attempt(folder)
    before = commit(zombie, [make_outcome(0)], rows={0: rows_of(0)})
    do_shard(folder, try_number=2)
    with pytest.raises(SupersededError):
        commit(zombie, [make_outcome(1), make_outcome(2)], rows={1: b"twice\n", 2: b"twice\n"}, progress=before)
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(4))


def test_torn_rows_between_committed_ones_are_not_published(tmp_path):
    folder = make_folder(tmp_path, 3)
    attempt = open_attempt(folder)
    progress = commit(attempt, [make_outcome(2)], rows={7: b"torn" * 3000, 2: rows_of(2), 8: b"void"})
    commit(attempt, [make_outcome(0), make_outcome(1)], rows={0: rows_of(0), 1: rows_of(1)}, progress=progress)
    merge_run(folder)
    assert published(tmp_path) == all_rows(0, 1, 2)


def test_rows_of_any_size_are_copied_whole(tmp_path):
    folder = make_folder(tmp_path, 5)
    rows = {1: b"x" * 9_000_001, 0: b"small\n", 3: b"y" * 3_000_000, 2: b"", 4: b"z" * 4_194_304}
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(index) for index in rows], rows=rows)
    merge_run(folder)
    assert published(tmp_path) == b"".join(rows[index] for index in range(5))


def test_more_mini_batches_than_are_read_at_once_are_copied_in_order(tmp_path):
    total = 20_000
    folder = make_folder(tmp_path, total)
    do_shard(folder)
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(total))


def test_rows_spread_over_many_files_are_found(tmp_path):
    folder = make_folder(tmp_path, 70)
    attempt, progress = open_attempt(folder), None
    for index in range(70):
        progress = commit(
            attempt, [make_outcome(index)], rows={index: rows_of(index)}, process=index, progress=progress
        )
    merge_run(folder)
    assert published(tmp_path) == all_rows(*range(70))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_rows_stand_in_input_order_wherever_they_were_written(data):
    total = data.draw(st.integers(1, 40))
    sizes = st.sampled_from([0, 1, 30, 300, 70_000, 200_000])
    rows = {index: bytes([index + 1]) * data.draw(sizes) for index in range(total)}
    with TemporaryDirectory() as output:
        folder = make_folder(Path(output), total)
        left = data.draw(st.permutations(range(total)))
        for try_number in (1, 2):
            attempt, progress = open_attempt(folder, try_number=try_number), None
            count = data.draw(st.integers(0, len(left))) if try_number == 1 else len(left)
            done, left = left[:count], left[count:]
            for process in (0, 1):
                mine = done[process::2]
                # What lies between the rows was never committed: of any length, or nothing at all.
                void = data.draw(st.sampled_from([0, 1, 5000]))
                written = {
                    key: value for index in mine for key, value in ((index, rows[index]), (-index - 1, b"?" * void))
                }
                outcomes = [make_outcome(index) for index in mine]
                progress = commit(attempt, outcomes, rows=written, process=process, progress=progress)
        merge_run(folder)
        assert published(Path(output)) == b"".join(rows.values())


def test_merging_again_gives_the_same_result(tmp_path):
    folder = make_folder(tmp_path, 3)
    do_shard(folder)
    first, second = merge_run(folder), merge_run(folder)
    assert second.location == first.location
    assert {**second.report, "at": None} == {**first.report, "at": None}
    assert files_in(tmp_path) == [RESULT]


def test_the_later_of_two_runs_with_one_output_wins(tmp_path):
    for run_id, total in (("run 1", 5), ("run 2", 2)):
        folder = make_folder(tmp_path, total, run_id=run_id)
        do_shard(folder)
        merge_run(folder)
    assert published(tmp_path) == all_rows(0, 1)


# What is not published


def test_an_aborted_run_leaves_an_earlier_result_untouched(tmp_path):
    (tmp_path / RESULT).write_text("earlier")
    folder = make_folder(tmp_path, 5, error_threshold=3)
    do_shard(folder, failed=[1, 3])
    with pytest.raises(RunAbortedError, match="4 of 10 items failed, error_threshold allows 3"):
        merge_run(folder)
    assert published(tmp_path) == b"earlier"
    assert files_in(tmp_path) == [RESULT]


def test_an_aborted_run_is_reported_as_aborted(tmp_path):
    folder = make_folder(tmp_path, 5, allowed_failed_count=1)
    do_shard(folder, failed=[1, 3])
    with pytest.raises(RunAbortedError):
        merge_run(folder)
    report = json.loads(folder.names.report.read_bytes())
    assert (report["status"], report["result"]) == ("aborted", None)


def test_a_run_with_mini_batches_that_were_never_tried_is_not_published(tmp_path):
    folder = make_folder(tmp_path, 3, 4)
    do_shard(folder, 0)
    with pytest.raises(IncompleteRunError, match=r"4 of 7 mini-batches were never tried"):
        merge_run(folder)
    assert files_in(tmp_path) == []
    report = json.loads(folder.names.report.read_bytes())
    assert (report["status"], report["mini_batches"]["not_tried"]) == ("failed", 4)


def test_thresholds_do_not_excuse_work_that_was_not_tried(tmp_path):
    folder = make_folder(tmp_path, 3, error_threshold=-1, allowed_failed_percent=100)
    attempt = open_attempt(folder)
    commit(attempt, [make_failure(0)], [make_failed_try(0)])
    with pytest.raises(IncompleteRunError, match="2 of 3"):
        merge_run(folder)


def test_a_reopened_mini_batch_is_not_published_before_it_was_tried_again(tmp_path):
    folder = make_folder(tmp_path, 3)
    do_shard(folder, failed=[1])
    open_attempt(folder, try_number=2, clear_number=1)
    with pytest.raises(IncompleteRunError, match="1 of 3"):
        merge_run(folder)


def test_an_abort_does_not_bind_merge(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    aborted = Abort(verdict=Verdict(ruling=Ruling.ABORT, reason="overtaken"), epoch=Epoch(0, 0))
    record = RunRecord(kind=RunRecordKind.ABORT, author="gatekeeper", abort=aborted)
    folder.run_log().append(lambda: record)
    merge_run(folder)
    assert published(tmp_path) == all_rows(0, 1)


# The ids of plans sort by the clocks of the machines that made them, which may go backwards.
ORDERS = pytest.mark.parametrize(("first", "second"), [("plan-1", "plan-2"), ("plan-2", "plan-1")])


@ORDERS
def test_the_older_plan_of_a_run_is_not_published(tmp_path, first, second):
    older = make_folder(tmp_path, 2, plan=first)
    do_shard(older)
    make_folder(tmp_path, 2, plan=second)
    with pytest.raises(SupersededError, match=f"{second} is newer"):
        merge_run(older)
    assert files_in(tmp_path) == []
    assert not older.names.report.exists()


@ORDERS
def test_the_newer_plan_of_a_run_is_published(tmp_path, first, second):
    make_folder(tmp_path, 2, plan=first)
    newer = make_folder(tmp_path, 3, plan=second)
    do_shard(newer)
    merge_run(newer)
    assert published(tmp_path) == all_rows(0, 1, 2)


def test_a_newer_plan_that_has_only_begun_is_no_hindrance(tmp_path):
    folder = make_folder(tmp_path, 2, plan="plan-1")
    do_shard(folder)
    folder.open_task_log().claim_plan()
    merge_run(folder)
    assert published(tmp_path) == all_rows(0, 1)


# Zombies


def stall(monkeypatch, meanwhile):
    """Let the next merge stall when it is about to publish, and something else happen meanwhile."""
    publish = Merge.publish

    def stalled(merge, write, **values):
        def write_late(out):
            write(out)
            monkeypatch.setattr(Merge, "publish", publish)
            meanwhile()

        publish(merge, write_late, **values)

    monkeypatch.setattr(Merge, "publish", stalled)


def report_of(folder):
    return json.loads(folder.names.report.read_bytes())


def test_a_merge_that_wakes_up_after_a_later_try_leaves_its_result_alone(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 3)
    do_shard(folder, failed=[1])

    def repair():
        do_shard(folder, try_number=2, clear_number=1)
        merge_run(folder, try_number=2)

    stall(monkeypatch, repair)
    with pytest.raises(SupersededError, match="a later try of merge has begun"):
        merge_run(folder, try_number=1)
    assert published(tmp_path) == all_rows(0, 1, 2)
    assert report_of(folder)["mini_batches"]["failed"] == 0
    assert files_in(tmp_path) == [RESULT]


@ORDERS
def test_a_merge_that_wakes_up_after_plan_was_cleared_leaves_the_newer_result_alone(
    tmp_path, monkeypatch, first, second
):
    older = make_folder(tmp_path, 4, plan=first)
    do_shard(older)

    def start_over():
        newer = make_folder(tmp_path, 2, plan=second)
        do_shard(newer)
        merge_run(newer, try_number=1)

    stall(monkeypatch, start_over)
    with pytest.raises(SupersededError):
        merge_run(older, try_number=3)
    assert published(tmp_path) == all_rows(0, 1)
    assert not older.names.report.exists()


def test_of_two_executions_of_one_try_the_later_one_publishes(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 3)
    do_shard(folder)
    stall(monkeypatch, lambda: merge_run(folder, try_number=1))
    with pytest.raises(SupersededError):
        merge_run(folder, try_number=1)
    assert published(tmp_path) == all_rows(0, 1, 2)


def test_a_shard_that_is_repaired_while_merge_writes_is_published_as_it_is_then(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 3)
    do_shard(folder, failed=[1])
    stall(monkeypatch, lambda: do_shard(folder, try_number=2, clear_number=1))
    assert merge_run(folder).report["mini_batches"]["failed"] == 0
    assert published(tmp_path) == all_rows(0, 1, 2)


def test_a_folder_that_is_continued_while_merge_writes_is_judged_by_its_new_terms(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 3)
    do_shard(folder, failed=[1])
    stall(monkeypatch, lambda: append_execution(folder, error_threshold=0))
    with pytest.raises(RunAbortedError, match="error_threshold allows 0"):
        merge_run(folder)
    assert files_in(tmp_path) == []


def test_what_was_published_is_known(tmp_path):
    folder = make_folder(tmp_path, 3, 2)
    do_shard(folder, 0)
    do_shard(folder, 1)
    result = merge_run(folder, try_number=1)
    record = folder.open_task_log().read()[-1]
    assert isinstance(record, Published)
    assert record.positions.keys() == {0, 1}
    assert (record.result, record.status) == (result.location, "completed")
    assert json.loads((folder.path / record.reports / "report.json").read_bytes()) == report_of(folder)


# Damage


def test_a_damaged_piece_is_named_and_nothing_is_published(tmp_path):
    (tmp_path / RESULT).write_text("earlier")
    folder = make_folder(tmp_path, 6)
    do_shard(folder)
    path = damage(folder, process=0)
    with pytest.raises(RunFolderError, match=f"mini-batch 1 are damaged.*{path}"):
        merge_run(folder)
    assert published(tmp_path) == b"earlier"
    assert files_in(tmp_path) == [RESULT]


def test_the_first_of_several_damaged_pieces_is_named(tmp_path):
    folder = make_folder(tmp_path, 4000)
    do_shard(folder)
    # Mini-batches 3999, 3997, ... stand in the file in this order.
    path = next(folder.path.glob("shards/*/rows/*-000.bin"))
    data = bytearray(path.read_bytes())
    for index in (2001, 1999, 3001):
        data[data.index(rows_of(index))] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match="mini-batch 1999 are damaged"):
        merge_run(folder)


def test_a_long_damaged_piece_is_found(tmp_path):
    folder = make_folder(tmp_path, 1)
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(0)], rows={0: b"x" * 5_000_000})
    damage(folder)
    with pytest.raises(RunFolderError, match="mini-batch 0 are damaged"):
        merge_run(folder)


def test_a_rows_file_that_lost_its_end_names_the_piece_that_is_gone(tmp_path):
    folder = make_folder(tmp_path, 6)
    do_shard(folder)
    path = next(folder.path.glob("shards/*/rows/*-001.bin"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunFolderError, match="mini-batch 4 are damaged"):
        merge_run(folder)


def test_a_rows_file_that_is_gone_is_named(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    path = next(folder.path.glob("shards/*/rows/*-001.bin"))
    path.unlink()
    with pytest.raises(RunFolderError, match=f"cannot be read from {path}"):
        merge_run(folder)
    assert files_in(tmp_path) == []
    assert "cannot be read" in folder.open_task_log().read().why_abandoned("plan-1")


def test_rows_that_cannot_be_read_now_are_no_reason_to_do_them_again(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    path = next(folder.path.glob("shards/*/rows/*-001.bin"))
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(RunFolderError, match="clear the merge task: no mini-batch runs again"):
        merge_run(folder)
    assert folder.open_task_log().read().why_abandoned("plan-1") is None
    path.rmdir()
    path.write_bytes(data)
    merge_run(folder)
    assert published(tmp_path) == all_rows(0, 1)


def test_a_record_that_is_gone_is_not_passed_over(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    (folder.path / "shards/00000/log/0000000001").unlink()
    with pytest.raises(IncompleteRunError, match="2 of 2"):
        merge_run(folder)
    assert files_in(tmp_path) == []


def test_a_damaged_record_is_not_passed_over(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    path = folder.path / "shards/00000/log/0000000002"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(RunFolderError, match="log/0000000002 is damaged"):
        merge_run(folder)
    assert files_in(tmp_path) == []
    assert "log/0000000002 is damaged" in folder.open_task_log().read().why_abandoned("plan-1")


def test_fewer_outcomes_than_were_counted_are_not_passed_over(tmp_path):
    folder = make_folder(tmp_path, 2)
    attempt = open_attempt(folder)
    progress = commit(attempt, [make_outcome(0)], rows={0: rows_of(0)})
    commit(attempt, [], progress=progress + count([make_outcome(1)]))
    with pytest.raises(RunFolderError, match="damaged"):
        merge_run(folder)


# Places that cannot be written


@contextmanager
def room_for(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_result_that_does_not_fit_leaves_the_earlier_one_untouched(tmp_path):
    (tmp_path / RESULT).write_text("earlier")
    folder = make_folder(tmp_path, 1000)
    do_shard(folder)
    with room_for(5000), pytest.raises(PublicationError, match=f"{tmp_path / RESULT}: File too large"):
        merge_run(folder)
    assert published(tmp_path) == b"earlier"
    assert files_in(tmp_path) == [RESULT]


def test_a_folder_in_the_place_of_the_result_is_named(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    (tmp_path / RESULT).mkdir()
    with pytest.raises(PublicationError, match=f"{tmp_path / RESULT}: Is a directory"):
        merge_run(folder)
    assert files_in(tmp_path) == []


def test_the_longest_file_name_that_a_file_system_takes_can_be_published(tmp_path):
    name = "数" * 85
    folder = make_folder(tmp_path, 2, append_row_file_name=name)
    do_shard(folder)
    assert merge_run(folder).location == str(tmp_path / name)


# What killed merges have left


def leave(output, *, name=RESULT, hours=0):
    """Leave what a merge that was killed so many hours ago leaves."""
    path = temporary_name(output / name)
    path.write_bytes(b"half")
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


class KilledError(BaseException):
    pass


def test_what_a_killed_merge_has_left_is_removed_by_the_next_of_its_run(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    kept = []

    def die():
        [name] = files_in(tmp_path)
        kept.append((tmp_path / name, (tmp_path / name).read_bytes()))
        raise KilledError

    stall(monkeypatch, die)
    with pytest.raises(KilledError):
        merge_run(folder)
    # A process that is killed removes nothing.
    [(path, data)] = kept
    path.write_bytes(data)
    merge_run(folder)
    assert files_in(tmp_path) == [RESULT]


@pytest.mark.parametrize(
    ("left", "stays"),
    [({}, True), ({"hours": 25}, False), ({"name": "other.txt", "hours": 25}, True)],
)
def test_what_merges_of_other_runs_have_left_is_removed_after_a_day(tmp_path, left, stays):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    path = leave(tmp_path, **left)
    merge_run(folder)
    assert path.exists() is stays


def test_a_damaged_folder_is_not_continued(tmp_path):
    folder = make_folder(tmp_path, 6)
    do_shard(folder)
    damage(folder, process=0)
    with pytest.raises(RunFolderError):
        merge_run(folder)
    assert "mini-batch 1 are damaged" in folder.open_task_log().read().why_abandoned("plan-1")


# Results without rows


def test_a_run_whose_items_all_failed_is_published_empty_with_a_warning(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder, failed=[0, 1])
    result = merge_run(folder)
    assert published(tmp_path) == b""
    assert "all 4 items failed" in result.report["warnings"][0]


def test_the_location_of_summary_only_is_the_output_folder(tmp_path):
    folder = make_folder(tmp_path, 2, output_action="summary_only")
    do_shard(folder)
    assert merge_run(folder).location == str(tmp_path)
    assert files_in(tmp_path) == []


def test_the_location_of_summary_only_without_output_is_the_scripts_folder(tmp_path):
    folder = make_folder(tmp_path, 2, settings={"output": None}, output_action="summary_only")
    do_shard(folder)
    assert merge_run(folder).location == str(folder.names.script_output)


# Reuse


@pytest.fixture
def earlier(tmp_path):
    folder = make_folder(tmp_path / "earlier", 4)
    do_shard(folder, failed=[2])
    merge_run(folder)
    return folder


def make_reuse(output, source, **settings):
    return make_folder(output, plan="plan-9", settings={"reused_from": str(source.path), **settings})


def test_a_reused_result_is_published_from_the_earlier_runs_rows(tmp_path, earlier):
    (tmp_path / "earlier" / RESULT).write_text("tampered with")
    merge_run(make_reuse(tmp_path, earlier))
    assert published(tmp_path) == all_rows(0, 1, 3)


def test_the_report_of_a_reused_result_says_where_it_is_from(tmp_path, earlier):
    report = merge_run(make_reuse(tmp_path, earlier)).report
    assert report["reused_from"] == str(earlier.path)
    assert report["mini_batches"] == {"total": 4, "succeeded": 3, "failed": 1, "not_tried": 0}


def test_reuse_of_a_reused_result_goes_back_to_the_run_that_did_the_work(tmp_path, earlier):
    between = make_reuse(tmp_path / "between", earlier)
    merge_run(make_reuse(tmp_path, between))
    assert published(tmp_path) == all_rows(0, 1, 3)


def test_damaged_rows_of_an_earlier_run_are_not_reused(tmp_path, earlier):
    damage(earlier)
    with pytest.raises(RunFolderError, match=r"mini-batch 1 are damaged(.|\n)*allow_reuse=False"):
        merge_run(make_reuse(tmp_path, earlier))
    assert not (tmp_path / RESULT).exists()


def test_an_earlier_run_that_is_gone_is_not_reused(tmp_path, earlier):
    folder = make_reuse(tmp_path, earlier)
    shutil.rmtree(earlier.path)
    with pytest.raises(RunFolderError, match=f"{earlier.path}(.|\n)*allow_reuse=False"):
        merge_run(folder)


def test_an_earlier_run_that_was_cleared_since_is_reused_as_it_was_published(tmp_path, earlier):
    open_attempt(earlier, try_number=2, clear_number=1)
    merge_run(make_reuse(tmp_path, earlier))
    assert published(tmp_path) == all_rows(0, 1, 3)


def test_an_earlier_run_without_a_result_is_not_reused(tmp_path):
    unpublished = make_folder(tmp_path / "earlier", 2)
    do_shard(unpublished)
    with pytest.raises(RunFolderError, match="has published no result"):
        merge_run(make_reuse(tmp_path, unpublished))


def test_runs_that_reuse_each_other_are_refused(tmp_path):
    folder = make_folder(tmp_path, plan="plan-9")
    make_folder(tmp_path, plan="plan-9", settings={"reused_from": str(folder.path)})
    with pytest.raises(RunFolderError, match="reuses itself"):
        merge_run(folder)


def test_a_reused_summary_only_without_output_is_where_the_earlier_script_wrote(tmp_path):
    source = make_folder(tmp_path / "earlier", 2, settings={"output": None}, output_action="summary_only")
    do_shard(source)
    merge_run(source)
    settings = {"output": None, "reused_from": str(source.path)}
    folder = make_folder(tmp_path, plan="plan-9", settings=settings, output_action="summary_only")
    assert merge_run(folder).location == str(source.names.script_output)


class TestKeepRows:
    """keep_rows=False: rows are deleted once they are published."""

    def make(self, output, *counts, **config) -> RunFolder:
        return make_folder(output, *counts, keep_rows=False, **config)

    def rows(self, folder) -> list[str]:
        return [str(path) for path in folder.path.glob("shards/*/rows/*")]

    def test_rows_are_kept_otherwise(self, tmp_path):
        folder = make_folder(tmp_path, 2)
        do_shard(folder)
        merge_run(folder)
        assert self.rows(folder)
        assert folder.open_task_log().read().rows_deleted(folder.path.name) is None

    def test_they_are_deleted_after_the_result_is_published(self, tmp_path, caplog):
        folder = self.make(tmp_path, 2, 3)
        do_shard(folder, 0)
        do_shard(folder, 1)
        with caplog.at_level("INFO"):
            merge_run(folder)
        assert published(tmp_path) == all_rows(*range(5))
        assert self.rows(folder) == []
        assert f"The rows in {folder.path} were deleted (keep_rows=False)." in caplog.messages

    def test_they_stay_if_nothing_is_published(self, tmp_path):
        folder = self.make(tmp_path, 2, 3)
        do_shard(folder, 0)
        with pytest.raises(IncompleteRunError):
            merge_run(folder)
        assert self.rows(folder)

    def test_a_merge_that_is_cleared_finds_its_result(self, tmp_path):
        folder = self.make(tmp_path, 3, error_threshold=9)
        do_shard(folder, failed=[1])
        first = merge_run(folder, try_number=1)
        folder.store.put("report.json", b'{"status": "failed"}')
        again = merge_run(folder, try_number=2)
        assert (again.location, again.report) == (first.location, first.report)
        assert first.advice == again.advice == ""
        assert published(tmp_path) == all_rows(0, 2)
        assert json.loads(folder.names.report.read_text()) == first.report

    def test_a_shard_that_is_cleared_with_nothing_to_do_changes_nothing(self, tmp_path):
        folder = self.make(tmp_path, 3)
        do_shard(folder)
        merge_run(folder)
        do_shard(folder, try_number=2, clear_number=1)
        merge_run(folder)
        assert published(tmp_path) == all_rows(0, 1, 2)

    def test_failures_that_are_tried_again_cannot_be_added(self, tmp_path):
        folder = self.make(tmp_path, 3, error_threshold=9)
        do_shard(folder, failed=[1])
        merge_run(folder)
        do_shard(folder, try_number=2, clear_number=1)
        with pytest.raises(RunFolderError, match=r"(?s)1 mini-batch has succeeded since .*Clear the plan task"):
            merge_run(folder)
        assert published(tmp_path) == all_rows(0, 2)

    @pytest.mark.parametrize("content", [None, b"of another run"])
    def test_a_result_that_is_not_in_its_place_is_an_error(self, tmp_path, content):
        folder = self.make(tmp_path, 3)
        do_shard(folder)
        merge_run(folder)
        (tmp_path / RESULT).unlink()
        if content is not None:
            (tmp_path / RESULT).write_bytes(content)
        with pytest.raises(RunFolderError, match="is gone, or something else has replaced it"):
            merge_run(folder)

    def test_a_merge_that_was_killed_before_all_were_deleted_is_finished_by_the_next(self, tmp_path, monkeypatch):
        folder = self.make(tmp_path, 3)
        do_shard(folder)
        with monkeypatch.context() as killed:
            killed.setattr(RunFolder, "remove_rows", raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                merge_run(folder)
        assert self.rows(folder)
        merge_run(folder)
        assert self.rows(folder) == []

    def test_a_failure_to_delete_does_not_fail_what_is_published(self, tmp_path, monkeypatch, caplog):
        folder = self.make(tmp_path, 3)
        do_shard(folder)
        monkeypatch.setattr(RunFolder, "remove_rows", raise_permission)
        merge_run(folder)
        assert "Not all rows could be deleted" in caplog.text

    def test_a_result_whose_rows_were_deleted_cannot_be_reused(self, tmp_path):
        source = self.make(tmp_path, 3)
        do_shard(source)
        merge_run(source)
        reusing = make_folder(tmp_path, run_id="later", settings={"reused_from": str(source.path)})
        with pytest.raises(RunFolderError, match="its rows were deleted after its result was published"):
            merge_run(reusing)

    def test_a_plan_that_has_begun_may_continue_the_folder(self, tmp_path, caplog):
        folder = self.make(tmp_path, 3)
        do_shard(folder)
        folder.open_task_log().claim_plan("later")
        merge_run(folder)
        assert self.rows(folder)
        assert "plan has begun again" in caplog.text
        append_execution(folder)
        merge_run(RunFolder(folder.path))
        assert self.rows(folder) == []


def raise_interrupt(folder):
    raise KeyboardInterrupt


def raise_permission(folder):
    raise PermissionError("no")


def test_a_result_says_whose_result_it_replaces(tmp_path):
    replaced = []
    for run_id in ("monday", "tuesday", "tuesday"):
        folder = make_folder(tmp_path, 1, run_id=run_id)
        if replaced[-1:] == [None] or not replaced:
            do_shard(folder)
        report = merge_run(folder).report
        replaced.append(report["replaces"])
    assert replaced == [None, "the result of score in run monday of DAG digits", None]
    (tmp_path / RESULT).write_text("edited by hand")
    folder = make_folder(tmp_path, 1, run_id="wednesday")
    do_shard(folder)
    assert merge_run(folder).report["replaces"] == "an earlier file, which no run is known to have published"
