"""The metrics that Airflow's statsd client sends of a run."""

from __future__ import annotations

import re
import socket
from collections import Counter
from importlib.metadata import version

import pytest
from packaging.version import Version

DAG = """
    with DAG("metered") as dag:
        ParallelRunOperator(
            task_id="step", parallel_run_config=config(run_max_try=2, node_count=1),
            inputs=[FileDataset({inputs!r})], output={output!r},
        )
"""
FAILS_AT_3 = """
    import pathlib
    import time

    def run(mini_batch):
        time.sleep(0.01)
        if any(path.endswith("3.txt") for path in mini_batch):
            raise ValueError("bad pixel")
        return mini_batch
"""


@pytest.fixture
def statsd(monkeypatch, airflow_home):
    """A socket to which Airflow's statsd client sends, and which keeps what has arrived."""
    stats = pytest.importorskip("airflow.sdk.observability.stats")
    from airflow.sdk.observability.metrics import stats_utils

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        settings = {
            "STATSD_ON": "True",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(server.getsockname()[1]),
            "STATSD_INFLUXDB_ENABLED": "True",
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
        # Airflow's task processes do this when they start; `airflow dags test` has none.
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
        yield server
    monkeypatch.undo()
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def counters_of(server: socket.socket) -> tuple[Counter[str], set[str]]:
    """Return the sums of our counters, and the tags that they had."""
    sums: Counter[str] = Counter()
    tags = set()
    while True:
        try:
            line = server.recv(65536).decode()
        except BlockingIOError:
            return sums, tags
        if found := re.fullmatch(r"airflow\.parallel_run\.(\w+),(.*):(\d+)\|c", line):
            sums[found[1]] += int(found[3])
            tags.add(found[2])


@pytest.mark.skipif(
    Version(version("apache-airflow-core")) < Version("3.3"), reason="earlier versions set up their client otherwise"
)
def test_airflows_statsd_client_sends_what_the_nodes_of_a_run_have_done(dag_file, statsd, tmp_path):
    inputs, output = tmp_path / "inputs", tmp_path / "out"
    inputs.mkdir()
    for number in range(10):
        (inputs / f"{number}.txt").touch()
    dag_file.script(FAILS_AT_3)
    dag_file.write(DAG.format(inputs=str(inputs), output=str(output)))

    assert dag_file.run().state == "success"

    sums, tags = counters_of(statsd)
    assert tags == {"dag_id=metered,task_id=step.mini_batches"}
    # Five mini-batches of two files; one of them fails twice.
    expected = {"mini_batches": 5, "failed_mini_batches": 1, "items": 10, "failed_items": 2, "tries": 6}
    assert {name: sums[name] for name in expected} == expected
    assert sums["failed_tries"] == 2
    assert sums["run_ms"] >= 60
    assert sums["commits"] > 0
    assert "staged_bytes" not in sums
