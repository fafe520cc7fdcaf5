"""What each worker process and each node did stands in two CSV files."""

from __future__ import annotations

import csv

import pytest

from airflow_prs.records import TryStatus
from airflow_prs.report.reports import write_reports
from tests.makers import commit, do_shard, make_failed_try, make_failure, make_folder, make_outcome, open_attempt


def summaries(folder):
    """Write the reports; the lines of process_summary.csv and node_summary.csv."""
    write_reports(folder, folder.read_settings(), status="completed", result="/out/rows.txt")
    paths = (folder.names.process_summary, folder.names.node_summary)
    return tuple(list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in paths)


def columns(lines, *names):
    return [tuple(line[name] for name in names) for line in lines]


@pytest.fixture
def folder(tmp_path):
    """One shard of five: process 0 did numbers 0 and 2, process 3 number 1, and failed at 4; 3 died with its node."""
    folder = make_folder(tmp_path, 5)
    attempt = open_attempt(folder)
    rows = {0: b"a\n", 2: b"b\n"}
    progress = commit(attempt, [make_outcome(0), make_outcome(2, returned=7)], rows=rows)
    commit(
        attempt,
        [make_outcome(1), make_failure(4), make_failure(3, status=TryStatus.NODE_DIED, started=0.0, run_s=0, cpu_s=0)],
        [
            make_failed_try(4, process="process003"),
            make_failed_try(3, status=TryStatus.NODE_DIED, process="", started=0.0),
        ],
        rows={1: b"c\n"},
        process=3,
        progress=progress,
    )
    return folder


def test_each_process_has_a_line(folder):
    processes, _ = summaries(folder)
    assert columns(processes, "node", "process") == [("host-0-1", "process000"), ("host-0-1", "process003")]


def test_what_a_process_did_is_added_up(folder):
    processes, _ = summaries(folder)
    assert processes[0] == {
        "node": "host-0-1",
        "process": "process000",
        "mini_batches": "2",
        "failed": "0",
        "items": "4",
        "elements": "9",
        "run_s": "0.5",
        "cpu_s": "0.25",
        "first_start": "2023-11-14 22:13:20.000Z",
        "last_end": "2023-11-14 22:13:22.500Z",
        "busy_share": "0.2",
    }


def test_a_mini_batch_that_failed_counts_for_the_process_of_its_last_try(folder):
    processes, _ = summaries(folder)
    assert columns(processes, "mini_batches", "failed") == [("2", "0"), ("2", "1")]


def test_what_died_with_its_node_counts_for_the_node_alone(folder):
    _, nodes = summaries(folder)
    assert columns(nodes, "node", "processes", "mini_batches", "failed") == [("host-0-1", "2", "5", "2")]


def test_a_node_has_its_rate_and_share_of_work(folder):
    _, nodes = summaries(folder)
    # From the start of number 0 to the end of number 4 it is 4.5 seconds, with a quarter of one in run() for each.
    assert columns(nodes, "wall_s", "mini_batches_per_s", "busy_share") == [("4.5", "1.111", "0.1111")]


def test_attempts_at_a_shard_are_nodes_of_their_own(tmp_path):
    folder = make_folder(tmp_path, 3)
    attempt = open_attempt(folder)
    commit(attempt, [make_outcome(1)], rows={1: b"\n"}, process=2)
    do_shard(folder, try_number=2)
    processes, nodes = summaries(folder)
    assert columns(nodes, "node", "mini_batches") == [("host-0-1", "1"), ("host-0-2", "2")]
    assert [line["process"] for line in processes] == ["process002", "process000", "process001"]


def test_all_shards_are_told_in_their_order(tmp_path):
    folder = make_folder(tmp_path, 2, 1, 4)
    for number in (2, 0, 1):
        do_shard(folder, number)
    _, nodes = summaries(folder)
    assert columns(nodes, "node", "mini_batches") == [("host-0-1", "2"), ("host-1-1", "1"), ("host-2-1", "4")]


def test_more_failures_than_are_read_at_a_time_find_their_processes(tmp_path):
    folder = make_folder(tmp_path, 1200)
    attempt = open_attempt(folder)
    tries = [make_failed_try(index, process=f"process{index % 2:03d}") for index in range(1200)]
    commit(attempt, [make_failure(index) for index in range(1200)], tries)
    processes, _ = summaries(folder)
    assert columns(processes, "process", "failed") == [("process000", "600"), ("process001", "600")]


def test_a_process_whose_only_mini_batch_has_no_moment_has_empty_moments(tmp_path):
    folder = make_folder(tmp_path, 1)
    attempt = open_attempt(folder)
    lost = make_failed_try(0, status=TryStatus.NODE_DIED, process="", started=0.0)
    commit(attempt, [make_failure(0, status=TryStatus.NODE_DIED, started=0.0, run_s=0, cpu_s=0)], [lost])
    processes, nodes = summaries(folder)
    assert processes == []
    assert columns(nodes, "processes", "first_start", "last_end", "busy_share") == [("0", "", "", "")]


def test_a_run_that_never_began_has_no_lines(tmp_path):
    assert summaries(make_folder(tmp_path, 3)) == ([], [])
