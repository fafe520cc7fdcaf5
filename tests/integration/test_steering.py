"""What a person orders while a real node works: cancel, drain, other limits."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from airflow_prs.errors import RunAbortedError
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.steering.orders import abort, change_limits
from tests.airflow_services import wait_until
from tests.shards import Tries, make_plan, read_outcomes, read_rows

WAITS = """
import time
from pathlib import Path

here = Path(HERE)

def run(mini_batch):
    with open(here / "began", "a") as began:
        began.write(mini_batch[0] + "\\n")
    may_fail = mini_batch[0] == "item-0"
    while not (here / "go").exists() and not (may_fail and (here / "fails now").exists()):
        time.sleep(0.01)
    if may_fail and ((here / "fails").exists() or (here / "fails now").exists()):
        raise ValueError("bad pixel")
    return mini_batch

def shutdown():
    (here / "shut down").touch()
"""
"""Waits in run() until the test lets it go on."""

ITEMS = [f"item-{number}" for number in range(6)]


def plan(tmp_path, **config):
    values = {"items": 1, "run_max_try": 1, "run_invocation_timeout": 100, "process_count_per_node": 2, **config}
    return make_plan(tmp_path, WAITS.replace("HERE", repr(str(tmp_path))), **values)


@contextmanager
def running(folder, tries):
    """Run the shard of a plan, and yield a list for its end once two mini-batches are in run()."""
    ends = []

    def run():
        try:
            ends.append(tries.run())
        except RunAbortedError as error:
            ends.append(error)

    node = threading.Thread(target=run)
    node.start()
    try:
        wait_until(lambda: len(began(folder)) == 2, "two calls of run()", 30, 0.02)
        yield ends
    finally:
        let_go(folder)
        node.join()


def began(folder) -> list[str]:
    path = Path(folder.path.parent, "began")
    return path.read_text().splitlines() if path.exists() else []


def end(ends):
    """Return how the node has ended, and after how many seconds."""
    since = time.monotonic()
    wait_until(lambda: ends, "the end of the node", 30, 0.02)
    return ends[0], time.monotonic() - since


def let_go(folder):
    Path(folder.path.parent, "go").touch()


def test_a_cancel_does_not_wait_for_run_and_a_clear_continues(tmp_path):
    folder = plan(tmp_path)
    tries = Tries(folder)
    others = set(psutil.Process().children(recursive=True))
    with running(folder, tries) as ends:
        abort(folder, AbortKind.CANCEL, "ann@host")
        error, took_s = end(ends)
        assert "The run was aborted: cancelled by ann@host." in str(error)
        assert took_s < 2
        assert set(psutil.Process().children(recursive=True)) <= others
    [shard] = folder.read_manifest().shards
    assert folder.read_shard(shard).closing is Closing.ABORTED
    with pytest.raises(RunAbortedError, match="cancelled by ann@host"):
        tries.run()
    tries.clear()
    assert tries.run()["succeeded"] == 6
    assert read_rows(folder) == ITEMS


def test_a_drain_keeps_what_run_returns_and_hands_out_nothing_else(tmp_path):
    folder = plan(tmp_path)
    tries = Tries(folder)
    with running(folder, tries) as ends:
        abort(folder, AbortKind.DRAIN, "ann@host")
        time.sleep(1.5)  # three looks of the node, in which it must not stop
        assert not ends
        let_go(folder)
        error, _ = end(ends)
    assert "The run was aborted: drained by ann@host." in str(error)
    assert Path(folder.path.parent, "shut down").exists()
    assert read_rows(folder) == began(folder) == ITEMS[:2]
    tries.clear()
    assert tries.run()["succeeded"] == 6
    assert read_rows(folder) == ITEMS
    assert sorted(began(folder)) == ITEMS, "each ran once"


def test_a_drain_can_be_cancelled(tmp_path):
    folder = plan(tmp_path)
    with running(folder, Tries(folder)) as ends:
        abort(folder, AbortKind.DRAIN, "ann@host")
        abort(folder, AbortKind.CANCEL, "bob@host")
        error, took_s = end(ends)
        assert "cancelled by bob@host" in str(error)
        assert took_s < 2
    assert not len(read_outcomes(folder))


def test_a_drain_of_the_last_mini_batches_lets_the_shard_succeed(tmp_path):
    folder = plan(tmp_path, mini_batches=2)
    with running(folder, Tries(folder)) as ends:
        abort(folder, AbortKind.DRAIN, "ann@host")
        let_go(folder)
        summary, _ = end(ends)
    assert summary["succeeded"] == 2


def test_limits_that_are_raised_in_time_prevent_an_abort(tmp_path):
    folder = plan(tmp_path, error_threshold=0)
    Path(tmp_path, "fails").touch()
    with running(folder, Tries(folder)) as ends:
        change_limits(folder, {"error_threshold": 1}, "ann@host")
        let_go(folder)
        summary, _ = end(ends)
    assert (summary["succeeded"], summary["failed"]) == (5, 1)


def test_limits_that_are_lowered_abort(tmp_path):
    folder = plan(tmp_path)
    [shard] = folder.read_manifest().shards
    with running(folder, Tries(folder)) as ends:
        Path(tmp_path, "fails now").touch()
        wait_until(lambda: folder.read_shard(shard).progress.failed == 1, "a failure", 30, 0.02)
        change_limits(folder, {"allowed_failed_count": 0}, "ann@host")
        error, took_s = end(ends)
    assert took_s < 2
    assert "allowed_failed_count allows 0" in str(error)


def test_a_shard_that_is_done_succeeds_whatever_its_last_failure_aborts(tmp_path):
    folder = plan(tmp_path, mini_batches=2, shards=2, error_threshold=0)
    Path(tmp_path, "fails").touch()
    let_go(folder)
    assert Tries(folder).run(0)["failed"] == 1
    with pytest.raises(RunAbortedError, match="error_threshold allows 0"):
        Tries(folder).run(1)
    assert Tries(folder, count=1).run(0)["failed"] == 1
