"""Samples of what a node uses."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time

from airflow_prs.node.machine.resources import COLUMNS, ProcessUsage, ResourceLog


def test_a_sample_has_a_line_for_the_machine_and_one_for_each_process_that_lives(tmp_path):
    log = ResourceLog(tmp_path / "logs" / "node.csv")
    log.sample([("process000", os.getpid()), ("process001", 2**22 + 1)])
    log.sample([("process000", os.getpid())])

    with (tmp_path / "logs" / "node.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [row["scope"] for row in rows] == ["node", "process000", "node", "process000"]
    assert tuple(rows[0]) == COLUMNS
    assert int(rows[1]["memory_used_bytes"]) > 2**20


def test_what_processes_use_together_leaves_out_those_that_have_ended():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    usage = ProcessUsage()
    assert usage.measure([os.getpid(), ended.pid])["memory_bytes"] > 1_000_000
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert usage.measure([os.getpid(), ended.pid])["cpu_percent"] > 0
    assert usage.measure([]) == {"cpu_percent": 0, "memory_bytes": 0}
