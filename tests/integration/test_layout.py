"""The layout of rows with real nodes: several processes find one, and storage that is slow or fails charges nobody."""

from __future__ import annotations

import errno
import os
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.layout import Layout
from tests.shards import Tries, make_plan, read_tries

RACES = """
def run(mini_batch):
    n = int(mini_batch[0].rpartition("-")[2])
    return [{"n": n, f"of{n % 5}": {f"f{n % 7}": n}} if n % 3 else {"n": None, f"of{n % 5}": None} for _ in mini_batch]
"""


def columns_of(script):
    """A script whose rows have all columns, each mini-batch in another order."""
    return script + textwrap.dedent("""
        inner = run
        def run(mini_batch):
            n = int(mini_batch[0].rpartition("-")[2])
            names = ["n", *(f"of{k}" for k in range(5))]
            return [{name: row.get(name) for name in names[n % 6:] + names[: n % 6]} for row in inner(mini_batch)]
    """)


@pytest.mark.parametrize("format_", ["parquet", pytest.param("csv", marks=pytest.mark.slow)])
def test_processes_of_two_nodes_that_race_find_one_layout(tmp_path, format_):
    folder = make_plan(
        tmp_path,
        columns_of(RACES),
        mini_batches=40,
        items=1,
        shards=2,
        process_count_per_node=3,
        run_max_try=1,
        append_row_format=format_,
    )
    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(lambda shard: Tries(folder).run(shard), range(2)))
    assert [summary["failed"] for summary in summaries] == [0, 0]
    location = merge_run(folder).location
    if format_ == "csv":
        header, *rows = Path(location).read_text().splitlines()
        place = header.split(",").index("n")
        assert [row.split(",")[place] for row in rows] == [str(n) if n % 3 else "" for n in range(40)]
        return
    for n, row in enumerate(pq.read_table(location).to_pylist()):
        found = {name: value for name, value in row.items() if name != "n" and value is not None}
        assert row["n"] == (n if n % 3 else None)
        assert {name: _present(value) for name, value in found.items()} == (
            {f"of{n % 5}": {f"f{n % 7}": n}} if n % 3 else {}
        )


def _present(fields):
    return {name: value for name, value in fields.items() if value is not None}


FRAMES = """
import asyncio
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({"secret": mini_batch})
"""


def spoil(monkeypatch, before):
    """Let a function run before each question that reaches the run folder; the questions."""
    asked, propose = [], Layout.propose

    def spoiled(layout, number, content):
        asked.append(number)
        before(len(asked))
        return propose(layout, number, content)

    monkeypatch.setattr(Layout, "propose", spoiled)
    return asked


def test_a_process_asks_once_and_not_for_each_mini_batch(tmp_path, monkeypatch):
    asked = spoil(monkeypatch, lambda _count: None)
    folder = make_plan(tmp_path, FRAMES, mini_batches=40, append_row_format="csv")
    Tries(folder).run()
    assert asked in ([0], [0, 0])


@pytest.mark.parametrize("prefix", ["", pytest.param("async ", marks=pytest.mark.slow)])
def test_waiting_for_slow_storage_counts_against_no_time_limit(tmp_path, monkeypatch, prefix):
    spoil(monkeypatch, lambda count: time.sleep(2.5 if count == 1 else 0))
    folder = make_plan(
        tmp_path,
        FRAMES.replace("def run", f"{prefix}def run"),
        append_row_format="parquet",
        run_invocation_timeout=1,
        run_max_try=1,
        max_concurrency_per_process=3 if prefix else 1,
    )
    assert Tries(folder).run()["failed"] == 0
    assert read_tries(folder) == []


def test_storage_that_fails_ends_the_node_and_charges_no_mini_batch(tmp_path, monkeypatch):
    def fail(count):
        if count == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "layout/000000")

    spoil(monkeypatch, fail)
    folder = make_plan(tmp_path, FRAMES, append_row_format="csv", run_max_try=1)
    tries = Tries(folder)
    with pytest.raises(OSError, match="No space left on device: 'layout/000000'"):
        tries.run()
    assert read_tries(folder) == []
    assert tries.run()["succeeded"] == 6
    assert Path(merge_run(folder).location).read_text().splitlines() == ["secret", *(f"item-{n}" for n in range(12))]


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_the_names_of_columns_are_rows_and_are_not_masked(tmp_path, format_):
    folder = make_plan(tmp_path, FRAMES, mini_batches=1, append_row_format=format_)
    Tries(folder, redact=lambda text: text.replace("secret", "***")).run()
    assert b"secret" in folder.layout().newest().content
