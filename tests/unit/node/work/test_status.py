"""What a running shard shows stays small whatever its size."""

from __future__ import annotations

import itertools
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.node.work.failed_tries import Failure
from airflow_prs.node.work.queue import Assignment
from airflow_prs.node.work.status import MOST_BINS, StatusBoard
from airflow_prs.records import MiniBatch, Outcome, Progress, Shard, TryStatus
from airflow_prs.run_folder.folder import RunFolder


def make_board(path, count, done=()):
    mask = np.zeros(count, bool)
    mask[list(done)] = True
    shard = Shard(number=0, first=1000, count=count, items=count, size_bytes=count)
    return StatusBoard(RunFolder(path), "status.json", shard, 1000 + count, "host-0-1", done=mask, failed=mask & False)


def read(path):
    return json.loads((path / "status.json").read_text())


def test_a_million_mini_batches_are_shown_in_four_hundred_bins(tmp_path):
    board = make_board(tmp_path, 1_000_000, done=range(10_000))
    for index in range(1000, 3000):
        board.count(Outcome(index=index + 500_000, status=TryStatus.RUN_DONE, tries=1, items=1))
    board.write(Progress(total=1_000_000), record=7)
    bins = read(tmp_path)["bins"]
    assert (len(bins["done"]), bins["done"][:5], bins["done"][200:202]) == (
        400,
        [1503, 2502, 2503, 2502, 990],
        [2000, 0],
    )
    assert (tmp_path / "status.json").stat().st_size < 4096


def test_a_small_run_has_a_bin_for_each_mini_batch(tmp_path):
    shard = Shard(number=1, first=4, count=3, items=3, size_bytes=3)
    board = StatusBoard(
        RunFolder(tmp_path),
        "status.json",
        shard,
        7,
        "host-1-2",
        done=np.array([True, True, False]),
        failed=np.array([True, False, False]),
    )
    board.count(Outcome(index=6, status=TryStatus.RUN_EXCEPTION, tries=3, items=1))
    board.write(Progress(), record=7)
    assert read(tmp_path)["bins"] == {"first": 4, "done": [1, 1, 1], "failed": [1, 0, 1]}


@given(total=st.integers(1, 1000), cuts=st.lists(st.integers(0, 1000), max_size=5), data=st.data())
def test_the_bins_of_all_shards_add_up_to_those_of_the_run(tmp_path_factory, total, cuts, data):
    path = tmp_path_factory.mktemp("bins")
    bounds = sorted({0, total, *(cut for cut in cuts if cut < total)})
    done = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    sums = [0] * min(MOST_BINS, total)
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        shard = Shard(number=number, first=first, count=end - first, items=end - first, size_bytes=end - first)
        mask = np.array(done[first:end])
        StatusBoard(RunFolder(path), "status.json", shard, total, "host-0-1", done=mask, failed=mask).write(
            Progress(), record=7
        )
        bins = read(path)["bins"]
        for place, count in enumerate(bins["done"], bins["first"]):
            sums[place] += count
    assert sums == [sum(done[i] for i in range(total) if i * len(sums) // total == place) for place in range(len(sums))]


def test_the_last_failures_are_shown(tmp_path):
    board = make_board(tmp_path, 10)
    for index in range(8):
        mini_batch = MiniBatch(index=index, input="input", items=1, size_bytes=1)
        board.note(
            Failure(
                assignment=Assignment(mini_batch, 1),
                status=TryStatus.RUN_EXCEPTION,
                error=f"error {index}",
                process="process000",
                started=0,
                duration_s=0,
            )
        )
    board.write(Progress(), record=7)
    assert [failure["error"] for failure in read(tmp_path)["last_failures"]] == [f"error {n}" for n in range(3, 8)]


def test_what_a_loan_shows_is_added_when_it_is_taken_over(tmp_path):
    lender, lent = make_board(tmp_path, 200), Shard(number=0, first=1120, count=40, items=40, size_bytes=40)
    none = np.zeros(40, bool)
    borrower = StatusBoard(RunFolder(tmp_path), "loan.json", lent, 1200, "host-1-1", done=none, failed=none)
    for index in range(1120, 1160):
        borrower.count(Outcome(index=index, status=TryStatus.RUN_EXCEPTION, tries=1, items=1))
    borrower.write(Progress(), record=3)
    lender.add(json.loads((tmp_path / "loan.json").read_text()))
    lender.write(Progress(), record=7)
    bins = read(tmp_path)["bins"]
    assert (sum(bins["done"]), sum(bins["failed"])) == (40, 40)
    assert [place + bins["first"] for place, done in enumerate(bins["done"]) if done] == [*range(373, 387)]


def test_a_process_is_shown_with_what_it_works_on_before_it_has_done_anything(tmp_path):
    board = make_board(tmp_path, 10)
    board.count(Outcome(index=1001, status=TryStatus.RUN_DONE, tries=1, items=1, process=1, run_s=0.5))
    board.write(Progress(), record=7, working={"process000": (1000, 12.5)}, usage={"cpu_percent": 80.0})
    shown = read(tmp_path)
    assert {name: (each["mini_batch"], each["since"]) for name, each in shown["processes"].items()} == {
        "process000": (1000, 12.5),
        "process001": (None, None),
    }
    assert (shown["processes"]["process001"]["run_s"], shown["usage"]) == (0.5, {"cpu_percent": 80.0})


def test_the_slowest_mini_batches_are_shown_and_no_more(tmp_path):
    board = make_board(tmp_path, 100)
    for index in range(1000, 1100):
        seconds = (index * 37) % 101 / 10
        board.count(Outcome(index=index, status=TryStatus.RUN_DONE, tries=1, items=1, duration_s=seconds))
    board.write(Progress(), record=7)
    times = [each["seconds"] for each in read(tmp_path)["slowest"]]
    assert times == sorted(((index * 37) % 101 / 10 for index in range(1000, 1100)), reverse=True)[:10]
