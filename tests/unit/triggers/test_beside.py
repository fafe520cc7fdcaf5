"""Looks that hang hold up nothing else in a triggerer."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from airflow_prs.triggers import gatekeeper as trigger_module
from airflow_prs.triggers.beside import _read_mounts, beside, mount_of, place_of
from airflow_prs.triggers.gatekeeper import GatekeeperTrigger

MOUNTS = ["/", "/data", "/data/nfs", "/dat"]


@pytest.mark.parametrize(
    ("folder", "mount"),
    [("/data/nfs/out", "/data/nfs"), ("/data/nfsx", "/data"), ("/date", "/"), ("/data", "/data"), ("relative", "/")],
)
def test_a_folder_is_on_the_innermost_mount(folder, mount):
    assert mount_of(folder, MOUNTS) == mount


@pytest.mark.parametrize(
    ("folder", "place"), [("s3://my_aws@bucket/runs/a", "s3://my_aws@bucket"), ("abfs://in", "abfs://in")]
)
def test_all_addresses_in_a_bucket_share_threads(folder, place):
    assert place_of(folder) == place


def test_the_mounts_of_this_machine_are_known():
    assert "/" in _read_mounts()


@pytest.fixture
def hung(tmp_path):
    """A run folder whose first file does not answer until the test is over."""
    path = tmp_path / "config.json"
    os.mkfifo(path)
    yield tmp_path
    # Opened for reading too, it does not wait for a reader; closed again, it ends whoever reads.
    os.close(os.open(path, os.O_RDWR))


def test_hung_looks_keep_few_threads_and_nobody_from_resolving_names(hung, monkeypatch):
    monkeypatch.setattr(trigger_module, "ANSWERS_WITHIN_S", 0.3)
    trigger = GatekeeperTrigger(
        folder=str(hung), execution=0, clear=0, dag_id="d", run_id="r", shards_task_id="s", until=time.time() + 60
    )

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        watches = [asyncio.ensure_future(trigger._watch()) for _ in range(20)]
        await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 5)
        return [str(error) for error in await asyncio.gather(*watches, return_exceptions=True)]

    errors = asyncio.run(run())

    assert all("has not answered for 0.3 seconds" in error for error in errors)
    assert sum(thread.name.startswith("airflow_prs-look") for thread in threading.enumerate()) <= 4


def test_work_is_done_beside_the_event_loop():
    assert asyncio.run(beside("/", lambda: threading.current_thread().name, within_s=5)).startswith("airflow_prs-look")


def test_a_connection_that_is_missing_lets_the_gatekeeper_go_on_without_the_trigger(monkeypatch):
    monkeypatch.setattr(trigger_module, "EXECUTION_LINGERS", timedelta(0))
    trigger = GatekeeperTrigger(
        folder="s3://missing@bucket/runs/a",
        execution=0,
        clear=0,
        dag_id="d",
        run_id="r",
        shards_task_id="s",
        until=time.time() + 60,
    )

    async def first() -> dict[str, str]:
        return (await anext(trigger.run())).payload

    event = asyncio.run(first())
    assert event["seen"] == trigger_module.Seen.NOTHING.value
    # Where no task runs, Airflow 3.1 cannot look a connection up, which may pass; later versions say that it misses.
    kind, _, message = event["message"].partition(": ")
    assert kind in {"StorageError", "StorageRefusedError"}
    assert message.startswith("s3://missing@bucket: Airflow returns no connection 'missing'")
