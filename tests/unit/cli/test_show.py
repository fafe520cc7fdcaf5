"""A run's page tells how far it is, what came of it, and where to look."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time

from airflow_prs.cli.main import main
from airflow_prs.records import Ruling, Verdict
from airflow_prs.report.reports import write_reports
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.run_log import Abort, AbortKind, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.steering import orders
from airflow_prs.steering.orders import change_limits
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


def page(capsys, path, *options, code=0):
    assert main(["show", str(path), *options]) == code
    return capsys.readouterr().out


def report_on(folder, status="completed", result="/out/rows.txt"):
    write_reports(folder, folder.read_settings(), status=status, result=result)


def begin(folder, number=0, **values):
    """Let an attempt at a shard commit its first mini-batch and go on."""
    attempt = open_attempt(folder, number)
    first = folder.read_manifest().shards[number].first
    commit(attempt, [make_outcome(first)], rows={first: rows_of(first)}, **values)


def test_a_completed_run_shows_its_report(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    do_shard(folder)
    report_on(folder)
    assert "completed: 3 of 3 mini-batches succeeded" in page(capsys, folder.path)


def test_a_run_that_goes_on_shows_its_counts(tmp_path, capsys):
    folder = make_folder(tmp_path, 3, 2)
    begin(folder)
    assert "Not finished: 1 of 5 mini-batches done, 0 of them failed" in page(capsys, folder.path)


def test_a_run_that_goes_on_shows_its_pace(tmp_path, capsys):
    folder = make_folder(tmp_path, 3, 2)
    begin(folder)
    folder.names.status.write_text(json.dumps({"at": time.time(), "mini_batches_per_s": 0.5}))
    assert "0.5 mini-batches a second, about 8 seconds left." in page(capsys, folder.path)


def test_a_pace_of_long_ago_is_not_shown(tmp_path, capsys):
    folder = make_folder(tmp_path, 3, 2)
    begin(folder)
    folder.names.status.write_text(json.dumps({"at": time.time() - 600, "mini_batches_per_s": 0.5}))
    assert "a second" not in page(capsys, folder.path)


def test_each_shard_has_a_line(tmp_path, capsys):
    folder = make_folder(tmp_path, 3, 2, 2)
    begin(folder)
    do_shard(folder, 1)
    labels = [shard.label for shard in folder.read_manifest().shards]
    lines = [line for line in page(capsys, folder.path).splitlines() if line.startswith(tuple(labels))]
    assert re.sub(r"\d+ s ago", "now", lines[0]) == f"{labels[0]}: 1 of 3 done; running on host-0-1, last update now"
    assert lines[1:] == [f"{labels[1]}: 2 of 2 done; done on host-1-1", f"{labels[2]}: 0 of 2 done; not begun"]


def test_a_shard_that_has_committed_nothing_shows_when_it_began(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    open_attempt(folder, 0)
    assert re.search(r": 0 of 3 done; running on host-0-1, last update \d s ago\n", page(capsys, folder.path))


def test_a_shard_that_was_stopped_says_so(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    begin(folder, closing=Closing.STOPPED)
    assert "1 of 3 done; stopped on host-0-1" in page(capsys, folder.path)


def test_of_many_shards_those_that_are_done_are_a_number(tmp_path, capsys):
    folder = make_folder(tmp_path, *[1] * 50)
    for number in range(20):
        do_shard(folder, number)
    shown = page(capsys, folder.path)
    assert "20 of 50 shards are done; the first of the others:" in shown
    assert "shard 0 ·" not in shown
    assert "shard 20 ·" in shown


def test_failures_are_shown_with_their_logs(tmp_path, capsys):
    folder = make_folder(tmp_path, 2)
    attempt = open_attempt(folder)
    commit(attempt, [make_failure(1)], [make_failed_try(1)])
    shown = page(capsys, folder.path)
    assert "1. mini-batch 1, try 3 on host-0-1, process001: RUN_EXCEPTION: ValueError: bad pixel" in shown
    assert f"log: {folder.path}/logs/user/stderr/host-0-1/process001.stderr.txt" in shown


def abort(folder):
    verdict = Verdict(ruling=Ruling.ABORT, threshold="error_threshold", reason="3 of 9 items failed")
    record = RunRecord(kind=RunRecordKind.ABORT, author="gatekeeper", abort=Abort(verdict=verdict, epoch=Epoch(0, 0)))
    folder.run_log().append(lambda: record)


def test_an_abort_is_shown(tmp_path, capsys):
    folder = make_folder(tmp_path, 2)
    begin(folder)
    abort(folder)
    assert "Aborted by gatekeeper: 3 of 9 items failed." in page(capsys, folder.path, code=1)


def test_what_persons_have_done_is_shown(tmp_path, capsys):
    folder = make_folder(tmp_path, 2, error_threshold=0)
    begin(folder)
    change_limits(folder, {"error_threshold": 5}, "ann@host")
    orders.abort(folder, AbortKind.DRAIN, "bob@host")
    shown = page(capsys, folder.path, code=1)
    assert re.search(r"\d by ann@host: error_threshold 0 -> 5\n.* by bob@host: drained\n", shown)
    assert "Aborted by bob@host: drained by bob@host." in shown


def test_an_abort_before_a_clear_is_not_shown(tmp_path, capsys):
    folder = make_folder(tmp_path, 2)
    begin(folder)
    abort(folder)
    open_attempt(folder, try_number=2, clear_number=1)
    assert "Aborted" not in page(capsys, folder.path)


def test_the_logs_have_a_line_for_each_record(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(0), make_failure(1)], [make_failed_try(1)], rows={0: rows_of(0)})
    abort(folder)
    shown = page(capsys, folder.path, "--log")
    assert "claim by host-0-1, try 1, epoch 0.0; 0 of 3 done; granted below 3" in shown
    assert "commit; 2 outcomes; 1 failed try; 2 of 3 done, 1 failed" in shown
    assert "abort of epoch 0.0 and older ones by gatekeeper, threshold: 3 of 9 items failed" in shown


def test_a_run_that_is_not_planned_yet_says_so(tmp_path, capsys):
    folder = make_folder(tmp_path, 2)
    folder.names.manifest.unlink()
    assert "Not planned yet" in page(capsys, folder.path)


def test_an_output_folder_shows_its_newest_run(tmp_path, capsys):
    newer, older = (make_folder(tmp_path, 2, run_id=run_id) for run_id in ("run a", "run b"))
    os.utime(older.names.settings, (1, 1))
    assert f"Run folder: {newer.path}\n" in page(capsys, tmp_path)


def test_a_report_of_before_a_new_attempt_is_not_shown(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    begin(folder, closing=Closing.STOPPED)
    report_on(folder, status="failed", result=None)
    open_attempt(folder, try_number=2)
    assert "Not finished: " in page(capsys, folder.path)


def test_a_run_whose_result_is_another_runs_shows_that_ones_shards(tmp_path, capsys):
    origin = make_folder(tmp_path, 3, run_id="run a")
    do_shard(origin)
    merge_run(origin)
    folder = make_folder(tmp_path, run_id="run b", settings={"reused_from": str(origin.path)})
    report_on(folder)
    assert f"Reused from {origin.path}." in page(capsys, folder.path)


def test_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 1
    assert f"{tmp_path} is not a run folder and contains none" in capsys.readouterr().err


def test_following_a_run_that_is_over_shows_it_once(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    do_shard(folder)
    report_on(folder)
    assert page(capsys, folder.path, "--follow").count("completed") == 1


def test_following_ends_when_the_run_does(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)

    def finish():
        time.sleep(0.2)
        do_shard(folder)
        report_on(folder)

    worker = threading.Thread(target=finish)
    worker.start()
    shown = page(capsys, folder.path, "--follow")
    worker.join()
    assert "completed: 3 of 3" in shown


def test_following_ends_when_a_run_was_cancelled_and_no_shard_works_on_it(tmp_path, capsys):
    folder = make_folder(tmp_path, 3)
    begin(folder, closing=Closing.STOPPED)
    orders.abort(folder, AbortKind.CANCEL, "bob@host")
    assert "Aborted by bob@host: cancelled" in page(capsys, folder.path, "--follow", code=1)


def test_a_run_is_found_by_its_ids(tmp_path, capsys):
    folder, _ = (make_folder(tmp_path, 2, run_id=run_id) for run_id in ("run a", "run b"))
    ids = ("--dag-id", "digits", "--run-id", "run a")
    assert f"Run folder: {folder.path}\n" in page(capsys, tmp_path, *ids)
    assert f"run log of {folder.path}\n" in page(capsys, tmp_path, *ids, "--log")
    assert main(["show", str(tmp_path), "--run-id", "run c"]) == 1
    assert "holds no run of run 'run c'" in capsys.readouterr().err


def test_a_reader_that_ends_early_gets_no_traceback(tmp_path):
    folder = make_folder(tmp_path, 3)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "airflow_prs", "show", str(folder.path)]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")
