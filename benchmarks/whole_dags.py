"""Compare an entire DAG run with `airflow dags test` with one mapped task instance for each mini-batch."""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder
from benchmarks.short_work import BASE_NAMES, ITEMS, MINI_BATCHES
from tests.dag_runs import DagFile

MAPPED = 40
# The first task of `airflow dags test` also starts Airflow's API in the same process, so this one does nothing else.
BEGIN = """
@task
def begin():
    pass
"""
OURS = """
with DAG("whole", schedule=None):
    begin() >> ParallelRunOperator(
        task_id="step",
        parallel_run_config=config(mini_batch_size={items}, node_count=1, process_count_per_node={processes}),
        inputs=[FileDataset({input!r})],
        output={output!r},
    )
"""
ONE_BY_ONE = """
import os

@task
def base_names(paths):
    return [os.path.basename(path) for path in paths]

with DAG("whole", schedule=None):
    paths = [[f"/in/{{n * {items} + k}}" for k in range({items})] for n in range({mini_batches})]
    begin() >> base_names.expand(paths=paths)
"""


def ours_s() -> float:
    """Return the seconds from the start of plan to the end of merge."""

    def write(file: DagFile, path: Path) -> None:
        folder = path / "in"
        folder.mkdir()
        for number in range(MINI_BATCHES * ITEMS):
            (folder / f"item-{number:06}").touch()
        # Make these files durable now, so that the commits of the run do not have to wait for them.
        os.sync()
        file.script(BASE_NAMES)
        file.write(BEGIN + OURS.format(items=ITEMS, processes=PROCESSES, input=f"{folder}/*", output=str(path / "out")))

    return _run_s(write)


def one_by_one_s() -> float:
    """Return the seconds that 2,000 mapped task instances would take, estimated from 40 of them."""

    def write(file: DagFile, path: Path) -> None:  # noqa: ARG001 - as above
        file.write(BEGIN + ONE_BY_ONE.format(items=ITEMS, mini_batches=MAPPED))

    return _run_s(write) / MAPPED * MINI_BATCHES


def _run_s(write: Callable[[DagFile, Path], None]) -> float:
    with new_folder() as path:
        home = path / "home"
        write(DagFile(home / "dags" / "whole"), path)
        run = functools.partial(_airflow, home)
        run("db", "migrate")
        run("dags", "test", "whole")
        with sqlite3.connect(home / "airflow.db") as database:
            rows = database.execute("select task_id, state, start_date, end_date from task_instance").fetchall()
        if {state for _, state, *_ in rows} != {"success"}:
            raise RuntimeError(f"not every task instance succeeded: {rows}")
        moments = [datetime.fromisoformat(moment) for name, _, *both in rows if name != "begin" for moment in both]
        return (max(moments) - min(moments)).total_seconds()


def _airflow(home: Path, *command: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *command],
        env={**kept, **own},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"airflow {' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def whole(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "the same 2,000 mini-batches as a DAG run, `airflow dags test`, from the start of plan to the end of merge",
            "a mapped task instance for each (measured on 40)",
            0.01,
            ours_s,
            one_by_one_s,
            rounds=5,
            reason="In most runs Python stops once for 0.4 s to collect garbage among all objects of Airflow",
        )
    ]
