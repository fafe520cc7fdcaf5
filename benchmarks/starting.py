"""Measure the time before any work begins: the start of a shard, and the import in a DAG file."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder
from tests.shards import make_plan, read_outcomes

ECHO = "def run(mini_batch): return mini_batch\n"
EXECUTE = """
import time
from airflow_prs import ParallelRunOperator
from tests.node_process import main
print(time.time())
main()
"""


def start_s() -> float:
    """Return the seconds from execute() to the first run() with files as input, after the imports of the DAG file."""
    with new_folder() as path:
        folder = make_plan(path, ECHO, mini_batches=PROCESSES, items=1, process_count_per_node=PROCESSES)
        command = [sys.executable, "-c", EXECUTE, str(folder.path), "0", "1"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        began = float(done.stdout.split()[0])
        return float(read_outcomes(folder)["started"].min()) - began


def command_s(code: str) -> float:
    """Return the seconds that a new Python takes to run a line of code."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began


def import_s(statement: str, *, before: str = "pass") -> float:
    """Return the seconds that an import takes after another statement."""
    code = f"{before}\nimport time; t = time.monotonic()\n{statement}\nprint(time.monotonic() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def start(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "a shard's start, from execute() to the first run()",
            '`python -c "import pandas, pyarrow"`',
            1.5,
            start_s,
            lambda: command_s("import pandas, pyarrow"),
            rounds=7,
        )
    ]


def imports(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    names = "from airflow_prs import FileDataset, ParallelRunConfig, ParallelRunOperator"
    return [
        Comparison(
            "import of airflow_prs in a DAG file, Airflow already imported",
            "import of pydantic in a fresh Python",
            1.0,
            lambda: import_s(names, before="import airflow.sdk; airflow.sdk.DAG"),
            lambda: import_s("import pydantic; pydantic.BaseModel"),
            rounds=7,
        )
    ]
