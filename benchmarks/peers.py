"""
Compare the first rows of the benchmark with Joblib, Dask and Ray Data: ``make bench-peers``.

``python -m benchmarks.peers <python of the peers> W1`` measures only this row and does not change the page.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable

from benchmarks import short_work, tables, waiting
from benchmarks.page import replace_table
from benchmarks.shards import PROCESSES, shard_s

ROUNDS = 3
LONGEST_S = 600
NAMES = {"joblib": "Joblib", "dask": "Dask", "ray": "Ray Data"}


def rows(scale: float = 1.0) -> dict[str, tuple[str, Callable[[], float]]]:
    """Return the description of each row, and the function that measures this package."""
    return {
        "W1": ("2,000 mini-batches of 10 paths, base names", short_work.ours_s),
        "W2": (
            f"{int(tables.ROWS * scale):,} rows x 10 float64, LogisticRegression, text",
            lambda: tables.ours_s(tables.make_table(scale)),
        ),
        "W3": (
            "200 mini-batches of 20 ms CPU",
            lambda: shard_s(waiting.BUSY, mini_batches=waiting.BUSY_MINI_BATCHES, items=1),
        ),
    }


def peer(python: str, name: str, row: str) -> dict[str, float | str] | None:
    """Return the seconds and the version of a peer; None if it failed or took too long."""
    table = str(tables.make_table(1.0).path) if row == "W2" else ""
    command = [python, "-m", "benchmarks.peer_programs", name, row, table]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"{name} {row}: not done after {LONGEST_S} s", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        print(f"{name} {row}: {error.stderr[-2000:]}", file=sys.stderr)
        return None
    result: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    python, *wanted = sys.argv[1:]
    lines, versions = [], {}
    for row, (work, ours) in rows().items():
        if wanted and row not in wanted:
            continue
        rounds = [(ours(), {name: peer(python, name, row) for name in NAMES}) for _ in range(ROUNDS)]
        cells = [f"{statistics.median(seconds for seconds, _ in rounds):.3g} s"]
        for name in NAMES:
            done = [answers[name] for _, answers in rounds if answers[name] is not None]
            versions[name] = next((answer["version"] for answer in done if answer is not None), "")
            found = [float(answer["seconds"]) for answer in done if answer is not None]
            cells.append(f"{statistics.median(found):.3g} s" if found else "does not finish")
        lines.append(f"| {row}: {work} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    peers = " | ".join(f"{shown} {versions.get(name, '')}".strip() for name, shown in NAMES.items())
    table = [f"| work, {PROCESSES} processes | ours | {peers} |", "|---|---|---|---|---|", *lines]
    if not wanted:
        replace_table("bench-peers", table)


if __name__ == "__main__":
    main()
