"""
Compare the cost of this package with that of its alternatives: ``make bench``.

``python -m benchmarks.bench W1 W2`` measures only these groups and does not change the page. Run it on an idle machine:
a ratio is more stable than a time, but not if something else runs during one of the two measurements.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from benchmarks import (
    aborting,
    delimited,
    live_page,
    loading,
    many_parts,
    merging,
    reading,
    short_work,
    starting,
    tables,
    waiting,
    whole_dags,
)
from benchmarks.comparing import HEADER, Comparison
from benchmarks.page import replace_table

GROUPS: dict[str, Callable[[float], Iterable[Comparison]]] = {
    "W1": short_work.short,
    "W2": tables.tables,
    "W3": waiting.busy,
    "W4": waiting.heavy_tail,
    "W5": loading.loading,
    "dag": whole_dags.whole,
    "million": short_work.million,
    "csv": delimited.delimited,
    "read": reading.reading,
    "parts": many_parts.many_parts,
    "merge": merging.merging,
    "start": starting.start,
    "import": starting.imports,
    "abort": aborting.abort,
    "page": live_page.page,
}
"""Functions that return the comparisons of a group for a scale from 0 to 1, which reduces the large sizes."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"one of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the large sizes")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    lines = [HEADER]
    print(HEADER, flush=True)
    for name in options.groups or GROUPS:
        for comparison in GROUPS[name](options.scale):
            lines.append(comparison.measure())
            print(lines[-1], flush=True)
    if not options.groups and options.scale == 1:
        replace_table("bench", lines)


if __name__ == "__main__":
    main()
