"""An idle node takes mini-batches over from the slowest one, and whoever dies meanwhile, each row counts once."""

from __future__ import annotations

import signal
import threading
import time
from types import SimpleNamespace

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.shard_log import shard_log
from airflow_prs.run_folder.shard_records import Closing
from tests.node_process import start_node
from tests.shards import Tries, make_plan, read_rows

COUNT = 40
ITEMS = 2

SLOW_FIRST_HALF = """
import os, pathlib, time

out = pathlib.Path(os.environ["AZUREML_BI_OUTPUT_PATH"])

def init():
    with open(out / "inits", "a") as log:
        log.write("init\\n")

def run(mini_batch):
    number = int(mini_batch[0].partition("-")[2])
    half = "first" if number < 40 else "second"
    (out / half).touch()
    while not ((out / "first").exists() and (out / "second").exists()):
        time.sleep(0.01)
    time.sleep(0.4 if number < 40 else 0.001)
    return [f"row of {path}" for path in mini_batch]
"""
"""The mini-batches of either shard wait until those of the other one have begun."""


@pytest.fixture
def folder(tmp_path):
    return make_plan(tmp_path, SLOW_FIRST_HALF, mini_batches=COUNT, items=ITEMS, shards=2, process_count_per_node=2)


def all_rows() -> list[str]:
    return [f"row of item-{number}" for number in range(COUNT * ITEMS)]


def loans_of(folder, number: int = 0):
    return folder.read_shard(folder.read_manifest().shards[number]).loans


def count_claims(folder, number: int = 0) -> int:
    log = shard_log(folder.store, folder.read_manifest().shards[number])
    return sum(b'"is_claim":true' in record.header for record in log.read_all())


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def is_lent_and_worked_on(folder) -> bool:
    return any(loan.progress.succeeded for loan in loans_of(folder) if loan.is_open)


def test_an_idle_node_takes_work_over_from_the_slow_one(folder):
    tries = [Tries(folder), Tries(folder)]
    threads = [threading.Thread(target=tries[number].run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_rows(folder) == all_rows()
    committed = read_committed(folder, folder.read_manifest())
    assert committed.progress.done == committed.progress.total == COUNT
    assert [state.closing for state in committed.states] == [Closing.DONE, Closing.DONE]
    slow = committed.states[0]
    nodes = committed.nodes(slow)
    by_the_other = [o for o in committed.outcomes(slow) if nodes[o["writer"]].endswith("-1-1")]
    assert by_the_other
    # Worker processes go on as they are.
    assert (folder.path.parent / "out" / "inits").read_text().count("init") == 4


@pytest.mark.parametrize("dies", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_borrower_that_dies_loses_nothing(folder, dies, monkeypatch):
    monkeypatch.setattr("airflow_prs.node.lending.lender.SILENT_S", 3.0)
    borrower = start_node(folder.path, 1, 1)
    slow = threading.Thread(target=Tries(folder).run, args=(0,))
    slow.start()
    try:
        wait_until(lambda: is_lent_and_worked_on(folder))
    finally:
        borrower.send_signal(dies)
        borrower.communicate()
        slow.join()
    assert read_rows(folder) == all_rows()
    assert count_claims(folder) == 2


def test_a_lender_that_dies_loses_nothing(folder):
    lender = start_node(folder.path, 1, 0)
    helper = threading.Thread(target=Tries(folder).run, args=(1,))
    helper.start()
    try:
        wait_until(lambda: is_lent_and_worked_on(folder))
    finally:
        lender.kill()
        lender.communicate()
        Tries(folder, count=1).run(0)
        helper.join()
    assert read_rows(folder) == all_rows()


def test_a_borrower_that_was_taken_for_dead_writes_what_nobody_reads(folder, monkeypatch):
    monkeypatch.setattr("airflow_prs.node.lending.lender.SILENT_S", 1.0)
    zombie = start_node(folder.path, 1, 1)
    slow = threading.Thread(target=Tries(folder).run, args=(0,))
    slow.start()
    try:
        wait_until(lambda: is_lent_and_worked_on(folder))
        zombie.send_signal(signal.SIGSTOP)
        slow.join()
        before = read_rows(folder)
    finally:
        zombie.send_signal(signal.SIGCONT)
        zombie.communicate()
        slow.join()
    assert zombie.returncode == 0
    assert before == read_rows(folder) == all_rows()


def test_a_shard_that_is_cleared_while_it_lends_does_nothing_twice(folder):
    tries = Tries(folder)

    def be_cleared() -> None:
        with pytest.raises(SupersededError):
            tries.run(0)

    threads = [threading.Thread(target=Tries(folder).run, args=(1,)), threading.Thread(target=be_cleared)]
    for thread in threads:
        thread.start()
    wait_until(lambda: is_lent_and_worked_on(folder))
    tries.clear()
    tries.run(0)
    for thread in threads:
        thread.join()
    assert read_rows(folder) == all_rows()


def test_without_lending_a_node_takes_nothing_over_and_reads_no_requests(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "airflow_prs.run_folder.attempts.Attempt.read_requests", lambda attempt: read.append(attempt) or []
    )
    options = {"items": ITEMS, "shards": 2, "process_count_per_node": 2, "lend": False}
    folder = make_plan(tmp_path, SLOW_FIRST_HALF, mini_batches=COUNT, **options)
    slow, quick = folder.read_manifest().shards
    lender = threading.Thread(target=Tries(folder).run, args=(slow.number,))
    lender.start()
    Tries(folder).run(quick.number)
    assert lender.is_alive()
    assert not folder.store.list("shards/00000/requests/")
    borrower = SimpleNamespace(writer=folder.read_shard(quick).claim.writer)
    folder.ask_for_loan(folder.read_shard(slow), borrower)
    lender.join()
    assert read == []
    assert read_rows(folder) == all_rows()


def test_nobody_waits_where_nobody_else_runs(folder):
    (folder.path.parent / "out").mkdir()
    for half in ("first", "second"):
        (folder.path.parent / "out" / half).touch()
    Tries(folder).run(1)
    Tries(folder).run(0)
    assert read_rows(folder) == all_rows()
    assert not folder.store.list("shards/00000/requests/")
