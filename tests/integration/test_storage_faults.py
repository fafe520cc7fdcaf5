"""A run on object storage that is busy, slow, and loses connections and answers: its rows are right, and it ends."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from airflow_prs.errors import RunAbortedError
from airflow_prs.object_storage import ambient, connecting
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.watch import open_watch
from tests.fault_proxy import Fault, FaultProxy
from tests.node_process import start_node
from tests.object_servers import serve
from tests.shards import make_plan, read_rows

COUNT = 400
ABORTS_WITHIN_S = 5

SCRIPT = """
import time

def run(mini_batch):
    with open({ran!r}, "a") as file:
        file.write(mini_batch[0] + "\\n")
    time.sleep(0.01)
    return mini_batch
"""


@pytest.fixture
def through_proxy(monkeypatch):
    """Start a proxy in front of a server, through which this process and the nodes ask; return it and a place."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(server: str, faults=tuple(Fault), every=5):
            place = serve(server).place()
            proxy = stack.enter_context(FaultProxy(place.server.url, faults, every).running())
            for name, value in place.server.credentials(url=proxy.url).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(connecting, "_connect", ambient.connect)
            monkeypatch.setattr(connecting, "_connections", {})
            return proxy, place

        yield start


@pytest.mark.parametrize("server", ["seaweed", pytest.param("azurite", marks=pytest.mark.slow)])
def test_each_row_is_published_once_whatever_goes_wrong(through_proxy, tmp_path, server):
    proxy, place = through_proxy(server)
    script = SCRIPT.format(ran=str(tmp_path / "ran"))
    folder = make_plan(place.without_connection, script, mini_batches=COUNT, shards=2)
    nodes = [start_node(folder.path, 1, shard) for shard in range(2)]
    for node in nodes:
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    expected = [f"item-{number}" for number in range(2 * COUNT)]
    assert read_rows(folder) == expected
    assert merge_run(folder).location == f"{place.without_connection}/out/parallel_run_step.txt"
    assert (place / "out/parallel_run_step.txt").text().splitlines() == expected
    assert set(Counter((tmp_path / "ran").read_text().splitlines()).values()) == {1}
    assert set(proxy.seen) == set(Fault)


FAILS = """
import pathlib, time

def run(mini_batch):
    time.sleep(0.05)
    if pathlib.Path({breaks!r}).exists():
        with open({failed!r}, "a") as file:
            file.write(f"{{time.time()}}\\n")
        raise ValueError("broken")
    return mini_batch
"""


@pytest.mark.parametrize("server", ["seaweed", pytest.param("azurite", marks=pytest.mark.slow)])
def test_an_abort_ends_all_nodes_within_five_seconds_whatever_goes_wrong(through_proxy, tmp_path, server):
    _, place = through_proxy(server)
    breaks, failed = tmp_path / "breaks", tmp_path / "failed"
    script = FAILS.format(breaks=str(breaks), failed=str(failed))
    folder = make_plan(
        place.without_connection, script, mini_batches=4000, shards=2, error_threshold=0, run_max_try=1
    )
    nodes = [start_node(folder.path, 1, shard) for shard in range(2)]
    watch = open_watch(folder, Epoch(1, 0))
    shards = folder.read_manifest().shards
    while not all(folder.read_shard(shard).progress.done for shard in shards):
        assert [node.poll() for node in nodes] == [None, None]
        time.sleep(0.1)
    breaks.touch()
    while watch.look(None).abort is None:
        time.sleep(0.1)
    for node in nodes:
        _, errors = node.communicate(timeout=60)
        assert RunAbortedError.__name__ in errors
    took_s = time.time() - min(float(line) for line in failed.read_text().split())
    assert took_s < ABORTS_WITHIN_S
