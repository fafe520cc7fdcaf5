"""What a running shard shows stays small whatever its size."""

from __future__ import annotations

import json

import numpy as np

from airflow_prs.node.protocols import Failure
from airflow_prs.node.queue import Hand
from airflow_prs.node.status import StatusBoard
from airflow_prs.records import MiniBatch, Outcome, Progress, Shard, Status


def make_board(path, count, done=()):
    mask = np.zeros(count, bool)
    mask[list(done)] = True
    shard = Shard(number=0, first=1000, count=count, items=count, size_bytes=count)
    return StatusBoard(path / "status.json", shard, "host-0-1", mask)


def read(path):
    return json.loads((path / "status.json").read_text())


def test_a_million_mini_batches_are_shown_in_a_hundred_bins(tmp_path):
    board = make_board(tmp_path, 1_000_000, done=range(10_000))
    for index in range(1000, 3000):
        board.count(Outcome(index=index + 500_000, status=Status.RUN_DONE, tries=1, items=1))
    board.write(Progress(total=1_000_000))
    bins = read(tmp_path)["bins"]
    assert (len(bins["done"]), bins["done"][0], bins["done"][50]) == (100, 10_000, 2000)
    assert (tmp_path / "status.json").stat().st_size < 4096


def test_a_small_shard_has_a_bin_for_each_mini_batch(tmp_path):
    board = make_board(tmp_path, 3, done=[1])
    board.count(Outcome(index=1002, status=Status.RUN_EXCEPTION, tries=3, items=1))
    board.write(Progress())
    bins = read(tmp_path)["bins"]
    assert (bins["done"], bins["failed"]) == ([0, 1, 1], [0, 0, 1])


def test_the_last_failures_are_shown(tmp_path):
    board = make_board(tmp_path, 10)
    for index in range(8):
        mini_batch = MiniBatch(index=index, input="input", items=1, size_bytes=1)
        board.note(
            Failure(
                hand=Hand(mini_batch, 1),
                status=Status.RUN_EXCEPTION,
                error=f"error {index}",
                process="process000",
                started=0,
                duration_s=0,
            )
        )
    board.write(Progress())
    assert [failure["error"] for failure in read(tmp_path)["last_failures"]] == [f"error {n}" for n in range(3, 8)]
