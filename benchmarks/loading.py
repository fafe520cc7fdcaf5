"""Measure whether tables are loaded while run() works."""

from __future__ import annotations

from airflow_prs.records import InputKind, Piece
from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder, work_s
from tests.shards import Tries, make_plan

MINI_BATCHES, OPEN_S, RUN_S = 200, 0.1, 0.11
OPTIONS = {"separator": ",", "header": False, "encoding": "utf-8", "columns": ["name", "value"]}
WAITS = f"""
import builtins, time

opened = builtins.open

def open_slowly(path, *arguments, **options):
    if str(path).endswith(".csv"):
        time.sleep({OPEN_S})
    return opened(path, *arguments, **options)

builtins.open = open_slowly

def run(mini_batch):
    time.sleep({RUN_S})
    return list(mini_batch["name"])
"""


def ours_s() -> float:
    """Return the seconds from the first load to the last commit."""
    with new_folder() as path:
        pieces = []
        for number in range(MINI_BATCHES):
            file = path / f"{number}.csv"
            file.write_text(f"item-{number},{number}\n")
            pieces.append((Piece(str(file), None, None),))
        table = {"kind": InputKind.DELIMITED, "options": OPTIONS, "pieces": pieces}
        folder = make_plan(path, WAITS, process_count_per_node=PROCESSES, **table)
        Tries(folder).run()
        return work_s(folder)


def loading(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            f"W5: {MINI_BATCHES} mini-batches of a table, {OPEN_S} s to open the file of each and {RUN_S} s in run()",
            "seconds of run() / processes",
            1.1,
            ours_s,
            lambda: MINI_BATCHES * RUN_S / PROCESSES,
        )
    ]
