"""A run on object storage that is busy, slow, and loses connections and answers: its rows are right, and it ends."""

from __future__ import annotations

import itertools
import subprocess
from collections import Counter
from contextlib import ExitStack

import pytest

from airflow_prs.errors import RunAbortedError
from airflow_prs.object_storage import ambient, connecting
from airflow_prs.result.merge import merge_run
from tests.airflow_services import wait_until
from tests.fault_proxy import BUSY, CUT, LOSE, SLOW, fault_proxy
from tests.node_process import start_node
from tests.object_servers import serve
from tests.shards import make_plan, read_rows

COUNT = 400
FAULTS = (BUSY, CUT, LOSE, SLOW)
EVERY = 5
SLOW_S = 1.5
ABORTS_WITHIN_S = 5 + 2 * SLOW_S
"""An abort is written by one node and read by the others: either request may be one that is slow."""

SCRIPT = """
import pathlib, time

def run(mini_batch):
    with open({ran!r}, "a") as file:
        file.write(mini_batch[0] + "\\n")
    if int(mini_batch[0].partition("-")[2]) >= {half}:
        pathlib.Path({other!r}).touch()
        return mini_batch
    while not pathlib.Path({other!r}).exists():
        time.sleep(0.01)
    time.sleep(0.08)
    return mini_batch
"""
"""The first shard begins when the second one has begun, and is so slow that this one takes mini-batches over."""


@pytest.fixture
def through_proxy(monkeypatch):
    """
    Let this process and nodes use a server through a proxy that does something to every fifth request.

    Return a place on the server, and the number of each fault so far.
    """
    with ExitStack() as stack:

        def start(server: str):
            place, seen, numbers = serve(server).place(), Counter(), itertools.count(1)
            proxy = stack.enter_context(fault_proxy(place.server.url))
            proxy.slow_s = SLOW_S

            def fault(_method: str, _path: str) -> str | None:
                turn, rest = divmod(next(numbers), EVERY)
                if rest:
                    return None
                seen[FAULTS[turn % len(FAULTS)]] += 1
                return FAULTS[turn % len(FAULTS)]

            proxy.fault = fault
            for name, value in place.server.credentials(url=proxy.url).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(connecting, "_connect", ambient.connect)
            monkeypatch.setattr(connecting, "_connections", {})
            return place, seen

        yield start


@pytest.fixture
def start_nodes():
    """Start a node for each shard; none of them is left running."""
    nodes: list[subprocess.Popen[str]] = []

    def start(folder):
        nodes.extend(start_node(folder.path, 1, shard.number) for shard in folder.read_manifest().shards)
        return nodes

    yield start
    for node in nodes:
        node.kill()
        node.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["seaweed", "azurite"])
def test_each_row_is_published_once_whatever_goes_wrong(through_proxy, start_nodes, tmp_path, server):
    place, seen = through_proxy(server)
    script = SCRIPT.format(ran=str(tmp_path / "ran"), other=str(tmp_path / "other"), half=COUNT)
    folder = make_plan(place.without_connection, script, mini_batches=COUNT, shards=2)
    for node in start_nodes(folder):
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    expected = [f"item-{number}" for number in range(2 * COUNT)]
    assert read_rows(folder) == expected
    assert merge_run(folder).location == f"{place.without_connection}/out/parallel_run_step.txt"
    assert (place / "out/parallel_run_step.txt").text().splitlines() == expected
    assert set(Counter((tmp_path / "ran").read_text().splitlines()).values()) == {1}
    assert set(seen) == set(FAULTS)


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


@pytest.mark.slow
@pytest.mark.parametrize("server", ["seaweed", "azurite"])
def test_an_abort_ends_the_work_of_all_nodes_soon_whatever_goes_wrong(through_proxy, start_nodes, tmp_path, server):
    place, _ = through_proxy(server)
    breaks, failed = tmp_path / "breaks", tmp_path / "failed"
    script = FAILS.format(breaks=str(breaks), failed=str(failed))
    folder = make_plan(place.without_connection, script, mini_batches=4000, shards=2, error_threshold=0, run_max_try=1)
    nodes = start_nodes(folder)
    shards = folder.read_manifest().shards
    wait_until(lambda: all(folder.read_shard(shard).progress.done for shard in shards), "commits", 60, every=0.2)
    breaks.touch()
    for node in nodes:
        _, errors = node.communicate(timeout=60)
        assert RunAbortedError.__name__ in errors
    calls = [float(line) for line in failed.read_text().split()]
    assert max(calls) - min(calls) < ABORTS_WITHIN_S
