"""What came of a run is told in files and words."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime

import pytest

from airflow_prs.errors import RunFolderError
from airflow_prs.records import Piece, Ruling, TryStatus, Verdict
from airflow_prs.report.reports import (
    abort_message,
    aborted_error,
    describe_report,
    first_failures,
    fresh_tries_advice,
    incomplete_message,
    write_reports,
)
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.shard_records import Closing
from tests.makers import (
    commit,
    do_shard,
    make_failed_try,
    make_failure,
    make_folder,
    make_mini_batch,
    make_outcome,
    make_shards,
    open_attempt,
    rows_of,
)


def report_on(folder, *, status="completed", result="/out/rows.txt"):
    return write_reports(folder, folder.read_settings(), status=status, result=result)


def csv_rows(folder):
    return list(csv.DictReader(io.StringIO(folder.names.processed.read_text(encoding="utf-8"))))


def failed_items(folder):
    return [json.loads(line) for line in folder.names.failed_items.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path):
    """Two shards of three and two mini-batches; number 1 has failed, after three tries."""
    folder = make_folder(tmp_path, 3, 2, error_threshold=10, allowed_failed_count=5, allowed_failed_percent=50)
    attempt = open_attempt(folder)
    tries = [make_failed_try(1, try_number=n, final=n == 3, error=f"ValueError: try {n}") for n in (1, 2, 3)]
    outcomes = [make_outcome(0, tries=2), make_failure(1), make_outcome(2, returned=5)]
    mended = make_failed_try(0, try_number=1, final=False)
    commit(attempt, outcomes, [mended, *tries], rows={2: rows_of(2), 0: rows_of(0)}, process=1, closing=Closing.DONE)
    do_shard(folder, 1)
    return folder


# report.json


def test_the_report_counts_mini_batches_items_and_rows(folder):
    report = report_on(folder)
    assert report["mini_batches"] == {"total": 5, "succeeded": 4, "failed": 1, "not_tried": 0}
    assert report["items"] == {"total": 10, "succeeded": 8, "failed": 2}
    assert report["rows"] == 2 + 5 + 2 + 2


def test_seconds_run_from_the_first_start_to_the_last_end(folder):
    assert report_on(folder)["seconds"] == 4.5


def test_the_report_names_the_run_and_its_result(folder):
    report = report_on(folder)
    assert (report["schema"], report["status"], report["result"]) == (2, "completed", "/out/rows.txt")
    assert report["reused_from"] is None
    assert report["run"] == {
        "dag_id": "digits",
        "run_id": "run 1",
        "task_id": "score",
        "plan": "plan-1",
        "folder": str(folder.path),
    }


def test_the_report_holds_counts_against_limits(folder):
    assert report_on(folder)["thresholds"] == {
        "error_threshold": {"limit": 10, "count": 2},
        "allowed_failed_count": {"limit": 5, "count": 1},
        "allowed_failed_percent": {"limit": 50, "count": 20.0},
    }


def test_what_is_returned_is_what_is_written(folder):
    assert report_on(folder) == json.loads(folder.names.report.read_bytes())


def test_a_failure_in_the_report_can_be_traced(folder):
    [failure] = report_on(folder)["failures"]
    assert failure == {
        "mini_batch": 1,
        "items": ["/data/1-0.png", "/data/1-1.png"],
        "try": 3,
        "status": "RUN_EXCEPTION",
        "error": "ValueError: try 3",
        "traceback": make_failed_try().traceback,
        "node": "host-0-1",
        "process": "process001",
        "started": "2023-11-14T22:13:21.000+00:00",
        "duration_s": 0.5,
        "log": f"{folder.path}/logs/user/stderr/host-0-1/process001.stderr.txt",
    }


def test_the_report_shows_the_first_ten_failures(tmp_path):
    folder = make_folder(tmp_path, 30)
    do_shard(folder, failed=range(5, 25))
    assert [failure["mini_batch"] for failure in report_on(folder)["failures"]] == list(range(5, 15))


def test_more_elements_than_items_are_a_warning_with_a_count(folder):
    [warning] = report_on(folder)["warnings"]
    assert "more elements than items for 1 mini-batches" in warning


def test_all_items_failed_is_a_warning(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder, failed=[0, 1])
    assert report_on(folder)["warnings"][0].startswith("all 4 items failed")


def test_a_run_without_failures_warns_of_nothing(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    report = report_on(folder)
    assert (report["warnings"], report["failures"]) == ([], [])


def test_a_run_that_never_began_is_reported(tmp_path):
    folder = make_folder(tmp_path, 3, 2)
    report = report_on(folder, status="failed", result=None)
    assert report["mini_batches"] == {"total": 5, "succeeded": 0, "failed": 0, "not_tried": 5}
    assert report["seconds"] == 0
    assert [row["status"] for row in csv_rows(folder)] == ["NOT_TRIED"] * 5


def test_a_later_report_replaces_the_earlier_one(folder):
    report_on(folder, status="aborted", result=None)
    report_on(folder)
    assert json.loads(folder.names.report.read_bytes())["status"] == "completed"
    assert not list(folder.path.glob(".*"))


def test_a_completed_run_whose_report_cannot_be_written_says_where_the_result_is(folder):
    folder.names.processed.mkdir()
    with pytest.raises(RunFolderError, match=r"The result is at /out/rows\.txt"):
        report_on(folder)


def test_a_report_that_cannot_be_written_does_not_hide_an_abort(folder):
    folder.names.processed.mkdir()
    report = report_on(folder, status="aborted", result=None)
    assert "cannot be written" in report["warnings"][0]


# processed_mini-batches.csv


def test_the_csv_has_a_line_per_mini_batch_in_input_order(folder):
    report_on(folder)
    assert [row["mini_batch"] for row in csv_rows(folder)] == ["0", "1", "2", "3", "4"]


def test_a_line_of_a_mini_batch_that_succeeded(folder):
    report_on(folder)
    assert csv_rows(folder)[0] == {
        "mini_batch": "0",
        "node": "host-0-1",
        "process": "process001",
        "tries": "2",
        "items": "2",
        "succeeded": "2",
        "failed": "0",
        "start": "2023-11-14 22:13:20.000Z",
        "duration_s": "0.5",
        "cpu_s": "0.125",
        "run_s": "0.25",
        "status": "RUN_DONE",
        "error_category": "",
        "error": "",
        "detail": "",
        "failed_items": "",
    }


def test_a_line_of_a_mini_batch_that_failed_tells_its_last_try(folder):
    report_on(folder)
    row = csv_rows(folder)[1]
    assert (row["status"], row["tries"], row["succeeded"], row["failed"]) == ("RUN_EXCEPTION", "3", "0", "2")
    assert (row["error_category"], row["error"]) == ("entry script", "ValueError: try 3")
    assert row["detail"] == make_failed_try().traceback


def test_lines_name_the_node_of_the_attempt_that_did_the_work(tmp_path):
    folder = make_folder(tmp_path, 2)
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(1)], rows={1: rows_of(1)}, process=7)
    do_shard(folder, try_number=2)
    report_on(folder)
    assert [(row["node"], row["process"]) for row in csv_rows(folder)] == [
        ("host-0-2", "process001"),
        ("host-0-1", "process007"),
    ]


def test_mini_batches_without_outcome_have_lines_too(tmp_path):
    folder = make_folder(tmp_path, 3)
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(0)], [make_failed_try(1, try_number=1, final=False)], rows={0: rows_of(0)})
    report_on(folder, status="failed", result=None)
    rows = csv_rows(folder)
    assert [row["status"] for row in rows] == ["RUN_DONE", "NOT_FINISHED", "NOT_TRIED"]
    assert [row["tries"] for row in rows] == ["1", "1", "0"]
    assert [row["items"] for row in rows] == ["2", "2", "2"]
    assert [row["error"] for row in rows] == ["", "ValueError: bad pixel", ""]
    assert [row["succeeded"] for row in rows] == ["2", "", ""]


@pytest.mark.parametrize("error", ['a "quote", a comma', "two\nlines", "Ω ünïcode"])
def test_any_error_text_survives_the_csv(tmp_path, error):
    folder = make_folder(tmp_path, 1)
    attempt = open_attempt(folder)
    commit(attempt, [make_failure(0)], [make_failed_try(0, error=error)])
    report_on(folder)
    assert csv_rows(folder)[0]["error"] == error


def test_a_mini_batch_that_died_with_its_node_has_a_line(tmp_path):
    folder = make_folder(tmp_path, 1)
    attempt = open_attempt(folder)
    lost = make_failed_try(0, status=TryStatus.NODE_DIED, traceback="", process="", log="", started=0.0)
    commit(attempt, [make_failure(0, status=TryStatus.NODE_DIED, started=0.0, duration_s=0.0)], [lost])
    assert report_on(folder)["seconds"] == 0
    row = csv_rows(folder)[0]
    assert (row["status"], row["error_category"], row["start"]) == ("NODE_DIED", "node", "")


def test_more_mini_batches_than_are_written_at_once_all_have_lines(tmp_path):
    folder = make_folder(tmp_path, 9000)
    do_shard(folder, failed=[8191, 8192])
    report_on(folder)
    rows = csv_rows(folder)
    assert [int(row["mini_batch"]) for row in rows] == list(range(9000))
    assert [int(row["mini_batch"]) for row in rows if row["status"] != "RUN_DONE"] == [8191, 8192]


# failed_items.jsonl


def test_every_failed_mini_batch_has_a_line_with_all_its_items_and_tries(folder):
    report_on(folder)
    [line] = failed_items(folder)
    assert (line["mini_batch"], line["input"], line["partition"]) == (1, "digits", None)
    assert line["items"] == ["/data/1-0.png", "/data/1-1.png"]
    assert [(t["try"], t["error"]) for t in line["tries"]] == [(n, f"ValueError: try {n}") for n in (1, 2, 3)]
    assert line["tries"][0]["log"] == f"{folder.path}/logs/user/stderr/host-0-1/process001.stderr.txt"


def test_parts_of_files_and_partitions_are_told(tmp_path):
    folder = make_folder(tmp_path, 1)
    pieces = (Piece("/data/a.csv", 10, 20), Piece("/data/b.parquet", 0, 5, 2))
    partition = {"user": "ann", "day": datetime.fromisoformat("2024-02-29")}
    folder.write_manifest([make_mini_batch(0, pieces=pieces, partition=partition)], make_shards(1))
    do_shard(folder, failed=[0])
    report_on(folder)
    [line] = failed_items(folder)
    assert line["items"] == [
        {"path": "/data/a.csv", "begin": 10, "end": 20},
        {"path": "/data/b.parquet", "begin": 0, "end": 5, "row_group": 2},
    ]
    assert line["partition"] == {"user": "ann", "day": "2024-02-29 00:00:00"}


def test_failed_mini_batches_of_all_shards_are_listed_in_input_order(tmp_path):
    folder = make_folder(tmp_path, 600, 600)
    for number in (1, 0):
        do_shard(folder, number, failed=range(1200))
    report_on(folder)
    assert [line["mini_batch"] for line in failed_items(folder)] == list(range(1200))


def test_tries_before_a_clear_are_not_told(tmp_path):
    folder = make_folder(tmp_path, 1)
    do_shard(folder, failed=[0])
    do_shard(folder, failed=[0], try_number=2, max_tries=7)
    report_on(folder)
    assert len(failed_items(folder)[0]["tries"]) == 1


def test_a_run_without_failures_has_an_empty_file(tmp_path):
    folder = make_folder(tmp_path, 2)
    do_shard(folder)
    report_on(folder)
    assert failed_items(folder) == []


# The first failures


def test_the_first_failures_of_all_shards_are_those_that_began_first(tmp_path):
    folder = make_folder(tmp_path, 3, 3)
    do_shard(folder, 1, failed=[3, 4])
    do_shard(folder, 0, failed=[0, 2])
    assert [failed.index for failed in first_failures(read_committed(folder, folder.read_manifest()), 3)] == [0, 2, 3]


def test_mended_tries_are_no_failures_where_a_mini_batch_failed_for_good(folder):
    assert [failed.index for failed in first_failures(read_committed(folder, folder.read_manifest()))] == [1]


def test_failed_tries_are_shown_where_nothing_failed_for_good(tmp_path):
    folder = make_folder(tmp_path, 2)
    attempt = open_attempt(folder)
    commit(attempt, [], [make_failed_try(1, final=False)])
    assert [failed.index for failed in first_failures(read_committed(folder, folder.read_manifest()))] == [1]


# Words


VERDICT = Verdict(
    ruling=Ruling.ABORT,
    threshold="error_threshold",
    limit=1,
    count=2,
    reason="2 of 10 items failed, error_threshold allows 1",
)


@pytest.mark.parametrize(
    "part",
    [
        "2 of 10 items failed, error_threshold allows 1",
        "ValueError: bad pixel",
        'File "score.py", line 7, in run',
        "/data/1-0.png",
        "process001.stderr.txt",
        "failed_items.jsonl",
        "clear mini_batches with its downstream tasks",
        "clear plan. With a higher error_threshold",
        "the run continues",
        "script, input or environment it starts over",
    ],
)
def test_an_abort_says_what_was_exceeded_what_failed_and_how_to_go_on(folder, part):
    assert part in abort_message(VERDICT, [make_failed_try(1)], folder)


def test_an_abort_shows_three_failures(folder):
    text = abort_message(VERDICT, [make_failed_try(index) for index in range(10)], folder)
    assert text.count("ValueError: bad pixel\n   item") == 3


def test_a_long_traceback_keeps_both_ends(folder):
    traceback = "Traceback\n" + "  frame\n" * 5000 + "ValueError: the end"
    text = abort_message(VERDICT, [make_failed_try(1, traceback=traceback)], folder)
    assert len(text) < 8000
    assert "Traceback\n" in text
    assert "ValueError: the end" in text


def test_an_abort_by_missing_elements_says_so_as_no_try_shows_it(folder):
    text = abort_message(VERDICT, [], folder)
    assert "run() returned fewer elements than it received items" in text
    assert "set error_threshold=-1" in text


def test_an_abort_by_failed_mini_batches_does_not_speak_of_missing_elements(folder):
    assert "fewer elements" not in abort_message(VERDICT, [make_failed_try(1)], folder)


def test_an_abort_without_known_failures_still_says_how_to_go_on(folder):
    assert "What to do next" in abort_message(VERDICT, [], folder)


def test_an_abort_names_failures_that_clearing_failed_tasks_leaves_as_they_are(tmp_path):
    folder = make_folder(tmp_path, 2, 2, 2)
    do_shard(folder, 0, failed=[0, 1])
    do_shard(folder, 1)
    do_shard(folder, 2, failed=[4])
    text = str(aborted_error(VERDICT, read_committed(folder, folder.read_manifest())))
    assert "3 mini-batches failed in shards that are done (map indexes of mini_batches: 0, 2)" in text


def test_failures_of_shards_that_go_on_or_were_stopped_need_no_advice(tmp_path):
    folder = make_folder(tmp_path, 2, 2)
    commit(open_attempt(folder, 0), [make_failure(0)], [make_failed_try(0)])
    commit(open_attempt(folder, 1), [make_failure(2)], [make_failed_try(2)], closing=Closing.ABORTED)
    assert fresh_tries_advice(read_committed(folder, folder.read_manifest()).states) == ""


def test_an_incomplete_run_says_how_much_is_missing_and_where(tmp_path):
    folder = make_folder(tmp_path, 3, 2)
    do_shard(folder, 0)
    text = incomplete_message(read_committed(folder, folder.read_manifest()), [])
    assert "2 of 5 mini-batches were never tried to the end" in text
    assert "shard 1 · mini-batches 3\N{EN DASH}4: 2 missing" in text
    assert "clear mini_batches with its downstream tasks" in text


def test_an_incomplete_run_of_many_shards_names_the_first_of_them(tmp_path):
    folder = make_folder(tmp_path, *[1] * 9)
    text = incomplete_message(read_committed(folder, folder.read_manifest()), [])
    assert text.count(": 1 missing") == 5
    assert "and 4 more shards" in text


def test_a_report_is_described_in_a_paragraph(folder):
    text = describe_report(report_on(folder))
    assert "\n" not in text
    assert text.startswith(
        "completed: 4 of 5 mini-batches succeeded, 1 failed; 8 of 10 items succeeded, 2 failed; "
        "11 rows in 4.5 seconds, 2.4 rows per second. Warning: "
    )
    assert text.endswith(" Result: /out/rows.txt")


def test_the_description_of_a_run_that_never_began_says_so(tmp_path):
    folder = make_folder(tmp_path, 3)
    assert "3 mini-batches were not tried to the end" in describe_report(
        report_on(folder, status="failed", result=None)
    )


def test_the_pause_before_a_run_was_continued_is_no_running_time(tmp_path):
    folder = make_folder(tmp_path, 3, 1)
    moments = {0: 1000.0, 1: 1002.0, 2: 90_000.0}  # each takes half a second
    commit(open_attempt(folder), [make_outcome(index, started=at) for index, at in moments.items()])
    commit(open_attempt(folder, 1), [make_outcome(3, started=1001.0, duration_s=4.0)])
    assert report_on(folder, status="failed")["seconds"] == 5.5


def test_a_run_without_outcomes_took_no_time(tmp_path):
    assert report_on(make_folder(tmp_path, 3), status="failed")["seconds"] == 0
