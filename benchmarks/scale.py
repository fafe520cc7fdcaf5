"""
Measure how the cost of a run grows with its size: ``make bench-scale``.

Everything except the nodes is real: plan cuts a file into mini-batches of one row, each shard is claimed and its
outcomes are committed in the way of a node, the gatekeeper and a node look at the run, and merge publishes the result
and writes the reports. Each shard has 10,000 mini-batches, so 10,000,000 mini-batches are 1,000 shards.

``python -m benchmarks.scale 10000 100000`` measures only these sizes and does not change the page. The largest size
needs 6 GB of disk.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.node.watching import Watcher
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import Manifest, Outcome, Progress, RunIdentity, Shard, TryStatus
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Closing, Epoch
from airflow_prs.thresholds.watch import open_watch
from benchmarks.page import replace_table
from benchmarks.shards import new_folder

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
IN_A_SHARD = 10_000
COMMITS = 10
ROW = b"0.12345\n"
NODE_LOOKS = 1000
GOAL = 1.2
REQUESTS = ("create", "put", "get", "stat", "list", "reader", "writer")
PER = {
    "claim": "shard",
    "a look of the gatekeeper, all shards new": "shard",
    "a look of the gatekeeper, nothing new": "shard",
    "a node begins to look": "node",
    "a look of a node": "look",
}
FIRST_TRY = TaskTry(try_number=1)


class CountingStore:
    """
    Passes everything on to a store, and counts the requests.

    :ivar requests: how many there were.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        self.requests += name in REQUESTS
        return getattr(self._store, name)

    def __str__(self) -> str:
        return str(self._store)


@dataclass
class Cost:
    """
    The cost of a step.

    :param count: how often it was done: number of mini-batches, of shards or of looks.
    """

    count: int
    cpu_s: float = 0.0
    peak_bytes: int = 0
    requests: int = 0


@dataclass
class Measured:
    """Measures the steps of a run of one size, in a process of its own."""

    folder: RunFolder
    costs: dict[str, Cost] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, count: int) -> Iterator[None]:
        """Measure a step; if it has been measured before, the costs are added."""
        cost = self.costs.setdefault(name, Cost(count=0))
        store = self.folder.store
        before = store.requests if isinstance(store, CountingStore) else 0
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak of memory
        resident, began = memory("VmRSS"), time.process_time()
        yield
        cost.cpu_s += time.process_time() - began
        cost.peak_bytes = max(cost.peak_bytes, memory("VmHWM") - resident)
        cost.count += count
        if isinstance(store, CountingStore):
            cost.requests += store.requests - before


def memory(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def make_request(path: Path, mini_batches: int) -> PlanRequest:
    """Write a file with a row for each mini-batch, and return the request to plan."""
    with (path / "rows.csv").open("wb") as file:
        for _ in range(mini_batches // IN_A_SHARD):
            file.write(b"7\n" * IN_A_SHARD)
    (path / "score.py").write_text("def run(rows): return rows\n", encoding="utf-8")
    dataset = TabularDataset.from_delimited_files(str(path / "rows.csv"), header=False)
    return PlanRequest(
        config=ParallelRunConfig(
            environment=Environment.current(),
            source_directory=str(path),
            entry_script="score.py",
            error_threshold=-1,
            output_action="append_row",
            compute_target="local",
            node_count=mini_batches // IN_A_SHARD,
            mini_batch_size="1 rows",
        ),
        datasets=(dataset.as_named_input("rows"),),
        output=str(path / "out"),
        run_root=str(path / "out"),
        dag_folder=str(path),
        identity=RunIdentity(dag_id="dag", run_id="run", task_id="task", plan="plan"),
    )


def measure(mini_batches: int) -> dict[str, Cost]:
    """Return the costs of all steps of a run."""
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401 - imported before the measurement

    with new_folder() as path:
        request = make_request(path, IN_A_SHARD)
        make_plan(replace(request, output=str(path / "first")))  # what is imported or built once does not count
        request = make_request(path, mini_batches)
        measured = Measured(RunFolder(path))
        with measured.step("plan", mini_batches):
            folder = make_plan(request).folder
        folder.store = CountingStore(folder.store)  # type: ignore[assignment]
        measured.folder = folder
        _run(measured, folder.read_manifest(), path)
        with measured.step("merge, with the reports", mini_batches):
            merge_run(folder)
        return measured.costs


def _run(measured: Measured, manifest: Manifest, path: Path) -> None:
    folder, shards = measured.folder, manifest.shards
    watch = open_watch(folder, Epoch(0, 0))
    for shard in shards:
        with measured.step("a node reads its mini-batches", shard.count):
            for _ in folder.read_mini_batches(shard.first, shard.end):
                pass
    attempts = []
    for shard in shards:
        with measured.step("claim", 1):
            files = folder.node_files(path / "local")
            node = f"host-{shard.number}-1"
            attempts.append(folder.open_attempt(shard, FIRST_TRY, node=node, window=4, files=files))
    for attempt in attempts:
        _write_rows(attempt)
    for first in range(0, COMMITS, COMMITS // 2):
        for attempt in attempts:
            _commit(measured, attempt, range(first, first + COMMITS // 2))
        with measured.step("a look of the gatekeeper, all shards new", len(shards)):
            watch.look()
    watch.look()  # it still expects new records
    with measured.step("a look of the gatekeeper, nothing new", len(shards)):
        watch.look()
    settings = folder.read_settings()
    with measured.step("a node begins to look", 1):
        watcher = Watcher(folder, manifest, attempts[0], limits=settings.config.limits, is_orphaned=lambda: False)
    with measured.step("a look of a node", NODE_LOOKS):
        for _ in range(NODE_LOOKS):
            watcher.look()


def _write_rows(attempt: Attempt) -> None:
    path = Path(attempt.rows.path(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ROW * attempt.shard.count)


def _commit(measured: Measured, attempt: Attempt, numbers: range) -> None:
    shard, each = attempt.shard, attempt.shard.count // COMMITS
    for number in numbers:
        done = (number + 1) * each
        outcomes = _make_outcomes(shard, number * each, done)
        progress = replace(_progress(shard), succeeded=done, handed_out=done, items_succeeded=done, elements=done)
        closing = Closing.DONE if done == shard.count else None
        with measured.step("commit", each):
            attempt.commit(outcomes, [], progress=progress, granted=shard.end, closing=closing)


def _progress(shard: Shard) -> Progress:
    return Progress(total=shard.count, items_total=shard.items)


def _make_outcomes(shard: Shard, begin: int, end: int) -> list[Outcome]:
    crc, size = zlib.crc32(ROW), len(ROW)
    return [
        Outcome(
            index=shard.first + place,
            status=TryStatus.RUN_DONE,
            tries=1,
            items=1,
            succeeded=1,
            returned=1,
            offset=place * size,
            length=size,
            crc=crc,
            started=1_700_000_000 + place / 5000,
            duration_s=0.011,
            run_s=0.01,
            cpu_s=0.01,
        )
        for place in range(begin, end)
    ]


def in_new_process(call: Callable[[int], dict[str, Cost]], size: int) -> dict[str, Cost]:
    """Call a function in a new process, so that its memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, size).result()


def lines_of(costs: dict[int, dict[str, Cost]]) -> list[str]:
    """Return the lines of the table."""
    sizes = sorted(costs)
    header = ["a step, and for each", *(f"{size:,}" for size in sizes), "last / first"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, first in costs[sizes[0]].items():
        per = PER.get(name, "mini-batch")
        found = [costs[size][name] for size in sizes]
        rows = {
            f"CPU time for each {per}": ([cost.cpu_s / cost.count * 1e6 for cost in found], "{:.3g} µs"),
            "peak of memory": ([cost.peak_bytes / 2**20 for cost in found], "{:.3g} MiB"),
        }
        if first.requests:
            rows[f"requests for each {per}"] = ([cost.requests / cost.count for cost in found], "{:.3g}")
        for what, (values, form) in rows.items():
            ratio = f"{values[-1] / values[0]:.3g}" if what != "peak of memory" else ""
            lines.append(f"| {name}: {what} | {' | '.join(map(form.format, values))} | {ratio} |")
    return lines


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    costs = {}
    for size in sizes:
        costs[size] = in_new_process(measure, size)
        print(f"{size:,}: {sum(cost.cpu_s for cost in costs[size].values()):.1f} CPU s", file=sys.stderr, flush=True)
    lines = lines_of(costs)
    print("\n".join(lines))
    if not sys.argv[1:]:
        replace_table("bench-scale", lines, "scale.md")


if __name__ == "__main__":
    main()
