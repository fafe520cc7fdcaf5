"""A run that is continued with more nodes than shards: the further nodes take mini-batches over."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from airflow_prs.cli.show import show
from airflow_prs.cli.show_log import show_log
from airflow_prs.errors import RunAbortedError
from airflow_prs.report.summaries import write_summaries
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.shard_records import Closing
from tests.node_process import start_node
from tests.shards import Tries, make_plan, read_rows

COUNT = 40
WAITS_S = {"awaits_others_s": 30.0}

SLOW = """
import os, pathlib, time

out = pathlib.Path(os.environ["AZUREML_BI_OUTPUT_PATH"])

def init():
    with open(out / "inits", "a") as log:
        log.write("init\\n")

def run(mini_batch):
    with open(out / "ran", "a") as log:
        log.write(mini_batch[0] + "\\n")
    time.sleep(0.25)
    return mini_batch
"""


@pytest.fixture
def folder(tmp_path):
    return make_plan(tmp_path, SLOW, mini_batches=COUNT, items=1, node_count=3, process_count_per_node=1)


def run_beside(*nodes):
    """Run the nodes (tries, shard, delay in seconds) at the same time, and return what each one returned or raised."""
    ends = {}

    def run(tries, shard, delay_s):
        time.sleep(delay_s)
        try:
            ends[shard] = tries.run(shard)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            ends[shard] = error

    threads = [threading.Thread(target=run, args=node) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def ran(folder) -> Counter[str]:
    return Counter((folder.path.parent / "out" / "ran").read_text().splitlines())


def check_result(folder) -> None:
    assert read_rows(folder) == [f"item-{number}" for number in range(COUNT)]
    assert ran(folder) == dict.fromkeys([f"item-{number}" for number in range(COUNT)], 1)
    (state,) = read_committed(folder, folder.read_manifest()).states
    assert (state.closing, state.progress.done, state.loans) == (Closing.DONE, COUNT, ())


def writers_of(folder) -> set[str]:
    committed = read_committed(folder, folder.read_manifest())
    (state,) = committed.states
    return {committed.nodes(state)[outcome["writer"]].split("-", 1)[1] for outcome in committed.outcomes(state)}


@pytest.mark.parametrize("lender_begins_after_s", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_further_nodes_do_mini_batches_of_the_first_one(folder, lender_begins_after_s, capsys, tmp_path):
    further = [(Tries(folder, request=WAITS_S), number, 0) for number in (1, 2)]
    ends = run_beside((Tries(folder), 0, lender_begins_after_s), *further)

    check_result(folder)
    assert [ends[number]["mini_batches"] for number in range(3)] == [COUNT, 0, 0]
    assert {writer[-3:] for writer in writers_of(folder)} == {"0-1", "1-1", "2-1"}
    assert (folder.path.parent / "out" / "inits").read_text().count("init") == 3
    with (tmp_path / "processes").open("wb") as processes, (tmp_path / "nodes").open("wb") as nodes:
        write_summaries(processes, nodes, read_committed(folder, folder.read_manifest()))
    assert len((tmp_path / "nodes").read_text().splitlines()) == 4
    show(folder, is_following=False)
    show_log(folder)
    printed = capsys.readouterr().out
    assert printed.count("shard 1 · takes mini-batches over") == 2
    assert printed.count("shard 2 · takes mini-batches over; done on ") == 1
    assert folder.read_status()["shards"] == {"done": 1}


@pytest.mark.slow
def test_a_further_node_ends_immediately_once_the_shards_are_done(folder):
    Tries(folder).run(0)
    began = time.monotonic()
    assert Tries(folder, request=WAITS_S).run(1)["mini_batches"] == 0
    assert time.monotonic() - began < 5
    assert (folder.path.parent / "out" / "inits").read_text().count("init") == 1, "it needs no worker process"
    check_result(folder)


def test_a_further_node_waits_only_for_a_while_for_shards_that_do_not_begin(folder):
    began = time.monotonic()
    assert Tries(folder, request={"awaits_others_s": 2.0}).run(1)["mini_batches"] == 0
    assert 2 <= time.monotonic() - began < 10
    assert Tries(folder).run(2)["mini_batches"] == 0


def test_a_further_node_without_lending_does_nothing(tmp_path):
    folder = make_plan(tmp_path, SLOW, mini_batches=4, node_count=2, lend=False)
    began = time.monotonic()
    assert Tries(folder, request=WAITS_S).run(1)["mini_batches"] == 0
    assert time.monotonic() - began < 5


def test_an_abort_stops_a_further_node_and_its_retry_until_a_clear(folder):
    script = "def run(mini_batch):\n    import time\n    time.sleep(0.3)\n    raise ValueError('bad')\n"
    folder = make_plan(
        folder.path.parent / "bad", script, mini_batches=COUNT, items=1, node_count=2, error_threshold=3, run_max_try=1
    )
    further = Tries(folder, request=WAITS_S)
    ends = run_beside((Tries(folder), 0, 0), (further, 1, 0))
    assert isinstance(ends[0], RunAbortedError)
    # It has no mini-batches of its own, so none of them lacks an outcome.
    assert ends[1]["mini_batches"] == 0
    began = time.monotonic()
    assert further.run(1)["mini_batches"] == 0
    assert time.monotonic() - began < 5
    further.clear_number = 1
    further.request = {}
    assert further.run(1)["mini_batches"] == 0


@pytest.mark.slow
def test_a_further_node_that_dies_loses_nothing_and_its_retry_helps_again(folder, monkeypatch, capsys):
    monkeypatch.setattr("airflow_prs.node.lending.lender.SILENT_S", 3.0)
    shard = folder.read_manifest().shards[0]
    slow = threading.Thread(target=Tries(folder).run, args=(0,))
    slow.start()
    dies = start_node(folder.path, 1, 1, awaits_others_s=30)
    try:
        end = time.monotonic() + 30
        while not any(loan.progress.succeeded for loan in folder.read_shard(shard).loans):
            assert time.monotonic() < end, "nothing was lent"
            time.sleep(0.05)
        show(folder, is_following=False)
        assert "shard 1 · takes mini-batches over; works on some of shard 0" in capsys.readouterr().out
    finally:
        dies.kill()
        dies.communicate()
    again = Tries(folder, count=1, request=WAITS_S)
    again.run(1)
    slow.join()
    assert read_rows(folder) == [f"item-{number}" for number in range(COUNT)]
    assert {writer[-3:] for writer in writers_of(folder)} == {"0-1", "1-1", "1-2"}
