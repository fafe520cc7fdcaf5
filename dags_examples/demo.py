"""
The last step of `make demo`: print the result, the counts and the duration of the newest run of example_digits.

`python -m dags_examples.demo` prints them again without a new run.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from airflow_prs.run_folder.folder import earlier_runs

FIRST_ROWS = 5


def main():
    home = Path(os.environ["AIRFLOW_HOME"])
    output = home / "demo" / "digits" / "result"
    runs = earlier_runs(str(output), dag_id="example_digits", task_id="read_digits")
    if not runs:
        raise SystemExit(f"There is no run of example_digits in {output}: start one with `make demo`.")
    report = json.loads(runs[0].names.report.read_text(encoding="utf-8"))
    print(describe(report, first_rows(report["result"])))
    print(f"Log           {home / 'demo.log'}")
    print(f"Run folder    {runs[0].path}")
    print("Open it       make ui, then open example_digits")


def first_rows(result):
    with Path(result).open(encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in itertools.islice(lines, FIRST_ROWS)]


def describe(report, rows):
    mini_batches, items, seconds = report["mini_batches"], report["items"], report["seconds"]
    return "\n".join(
        [
            "",
            f"Result        {report['result']}",
            *(f"{'First rows' if number == 0 else '':<13} {row}" for number, row in enumerate(rows)),
            f"Mini-batches  {mini_batches['total']:,} ({mini_batches['failed']:,} failed)",
            f"Items         {items['total']:,} ({items['failed']:,} failed)",
            f"Seconds       {seconds:.2f}",
            f"Rows/second   {report['rows'] / max(seconds, 0.001):,.0f}",
        ]
    )


if __name__ == "__main__":
    main()
