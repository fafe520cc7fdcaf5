"""
Measure the cost of object storage: ``make bench-storage``.

``python -m benchmarks.object_storage requests staging`` measures only these groups and does not change the page. All of
it runs against SeaweedFS on this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from benchmarks import storage_data, storage_runs
from benchmarks.comparing import HEADER, Comparison
from benchmarks.page import replace_table
from tests.object_servers import stop_servers

GROUPS: dict[str, Callable[[float], Iterable[Comparison]]] = {
    "requests": storage_runs.requests,
    "abort": storage_runs.abort,
    "staging": storage_data.staging,
    "merge": storage_data.merging,
    "plan": storage_data.plans,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_storage", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"one of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the sizes")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    lines = [HEADER]
    print(HEADER, flush=True)
    try:
        for name in options.groups or GROUPS:
            for comparison in GROUPS[name](options.scale):
                lines.append(comparison.measure())
                print(lines[-1], flush=True)
    finally:
        stop_servers()
    if not options.groups and options.scale == 1:
        replace_table("bench-storage", lines)


if __name__ == "__main__":
    main()
