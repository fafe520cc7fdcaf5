"""
Measure plan for inputs with very many parts.

The inputs are a million files in a thousand folders, and a million row groups in Parquet files, most of which are links
to a few files. Each measurement has a separate process, so that it has its own peak of memory. Creating the files takes
a minute or two.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import RunIdentity
from airflow_prs.run_folder.folder import RunFolder, all_plans
from benchmarks.comparing import Comparison

ROUNDS = 3
FOLDERS = 1000
FILES_PER_FOLDER = 1000
TABLES = 10_000
ROW_GROUPS = 100
ROWS_PER_GROUP = 10
SHARDS = 100


def measured(work: str, peer: str, goal: float, pair: tuple[float, float], unit: str = "s") -> Comparison:
    """Return a comparison of two values that are already measured: ours and the other one."""
    return Comparison(work, peer, goal, lambda: pair[0], lambda: pair[1], unit=unit, rounds=1)


# What is measured


def make_files(root: Path, folders: int) -> None:
    for folder in range(folders):
        path = root / f"{folder:04d}"
        path.mkdir(parents=True)
        for number in range(FILES_PER_FOLDER):
            os.close(os.open(f"{path}/item-{number:04d}.png", os.O_CREAT | os.O_WRONLY))


def make_tables(root: Path, count: int) -> None:
    """Create Parquet files that are links, 1,000 to each real file, as some file systems limit the number of links."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = ROW_GROUPS * ROWS_PER_GROUP
    table = pa.table(
        {"id": range(rows), "name": [f"n{n % 7}" for n in range(rows)], "value": [n / 2 for n in range(rows)]}
    )
    root.mkdir()
    for number in range(count):
        path = root / f"part-{number:05d}.parquet"
        if number % 1000 == 0:
            pq.write_table(table, first := path, row_group_size=ROWS_PER_GROUP)
        else:
            path.hardlink_to(first)


# Ours


def plan_files(root: Path) -> dict[str, float]:
    return plan(root, FileDataset(str(root / "files")).as_named_input("files"), 10)


def plan_tables(root: Path, name: str) -> dict[str, float]:
    dataset = TabularDataset.from_parquet_files(str(root / name)).as_named_input("table")
    return plan(root, dataset, f"{ROWS_PER_GROUP} rows")


def plan(root: Path, dataset: Any, mini_batch_size: int | str) -> dict[str, float]:
    """Run plan with the output ``<root>/out`` and the scripts in ``<root>/dag``, and return its seconds and memory."""
    shutil.rmtree(root / "out", ignore_errors=True)
    config = ParallelRunConfig(
        environment=Environment.current(),
        source_directory=".",
        entry_script="score.py",
        error_threshold=-1,
        output_action="append_row",
        compute_target="local",
        node_count=SHARDS,
        mini_batch_size=mini_batch_size,
    )
    request = PlanRequest(
        config=config,
        datasets=(dataset,),
        output=str(root / "out"),
        run_root=str(root / "out"),
        dag_folder=str(root / "dag"),
        identity=RunIdentity(dag_id="dag", run_id="run", task_id="task", plan="plan"),
    )
    for package in ("pyarrow.compute", "pyarrow.parquet"):
        importlib.import_module(package)  # imported before the measurement, as for the peers
    began = time.monotonic()
    make_plan(request)
    return {"seconds": time.monotonic() - began, "peak_bytes": peak_bytes()}


def read_shards(root: Path, count: int) -> dict[str, float]:
    """Read the mini-batches of the first shards one by one, like a node."""
    folder = the_plan(root)
    shards = folder.read_manifest().shards
    next(folder.read_mini_batches(0, 1))
    before = read_bytes()
    for _ in folder.read_mini_batches(0, shards[count - 1].end):
        pass
    return {"read_bytes": read_bytes() - before, "peak_bytes": peak_bytes()}


def the_plan(root: Path) -> RunFolder:
    (folder,) = all_plans(root / "out")
    return folder


# The others


def scan(root: Path) -> dict[str, float]:
    """Visit all files, as a script by hand would."""
    began = time.monotonic()
    size = 0
    folders = [str(root / "files")]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    size += entry.stat().st_size
    return {"seconds": time.monotonic() - began}


def read_footers(root: Path) -> dict[str, float]:
    """Read the footers and count the rows of each row group, as a script by hand would."""
    import pyarrow.parquet as pq

    began = time.monotonic()
    rows = size = 0
    for path in sorted(Path(root, "tables").iterdir()):
        footer = pq.read_metadata(path)
        size += footer.serialized_size
        rows += sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    return {"seconds": time.monotonic() - began, "footer_bytes": size}


# How it is measured


def peak_bytes() -> float:
    return 1024.0 * number_in("/proc/self/status", "VmHWM:")


def read_bytes() -> float:
    return float(number_in("/proc/self/io", "rchar:"))


def number_in(path: str, name: str) -> int:
    (line,) = (line for line in Path(path).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def in_own_process(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def in_turn(*calls: tuple[Any, ...]) -> list[dict[str, float]]:
    """Run the calls alternately, three times each, and return the medians for each call."""
    rounds = [[in_own_process(*call) for call in calls] for _ in range(ROUNDS)]
    return [
        {name: statistics.median(found[name] for found in results) for name in results[0]}
        for results in zip(*rounds, strict=True)
    ]


def measure_files(root: Path, total: int) -> Iterator[Comparison]:
    ours, other = in_turn((plan_files, root), (scan, root))
    work = f"plan over {total:,} files"
    yield measured(work, "os.scandir with stat", 2, (ours["seconds"], other["seconds"]))
    yield measured(f"{work}: peak of memory", "300 MiB", 1, (ours["peak_bytes"], 300 * 2**20), "MiB")
    yield from measure_reading(root, f"{total:,} files")


def measure_tables(root: Path, tables: int) -> Iterator[Comparison]:
    total = tables * ROW_GROUPS
    ours, few, other = in_turn((plan_tables, root, "tables"), (plan_tables, root, "few"), (read_footers, root))
    work = f"plan over {total:,} row groups in {tables:,} Parquet files"
    yield replace(
        measured(work, "pyarrow.parquet.read_metadata, file by file", 2.5, (ours["seconds"], other["seconds"])),
        reason="Half of the time is for the sizes of all columns of all row groups: pyarrow creates an object for each",
    )
    yield measured(
        f"{work}: peak of memory", "over a tenth of them", 1.5, (ours["peak_bytes"], few["peak_bytes"]), "MiB"
    )
    in_own_process(plan_tables, root, "tables")
    size = float(the_plan(root).names.manifest.stat().st_size)
    yield measured(f"the manifest of {total:,} row groups", "their footers", 0.02, (size, other["footer_bytes"]), "MiB")
    yield from measure_reading(root, f"{total:,} row groups")


def measure_reading(root: Path, parts: str) -> Iterator[Comparison]:
    """Measure what one shard reads of the manifest, and how the memory grows when a process reads all shards."""
    one, every = in_own_process(read_shards, root, 1), in_own_process(read_shards, root, SHARDS)
    size = float(the_plan(root).names.manifest.stat().st_size)
    work = f"what one of {SHARDS} shards of {parts} reads of the manifest"
    yield measured(work, "the whole manifest", 0.2, (one["read_bytes"], size), "MiB")
    work = f"peak of memory for reading {parts} in one stretch"
    yield measured(work, f"a {SHARDS}th of them", 1.25, (every["peak_bytes"], one["peak_bytes"]), "MiB")


def many_parts(scale: float) -> Iterator[Comparison]:
    root = Path(tempfile.mkdtemp(prefix="airflow_prs-many-parts-"))
    folders, tables = int(FOLDERS * scale), int(TABLES * scale)
    try:
        (root / "dag").mkdir()
        (root / "dag" / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
        make_files(root / "files", folders)
        yield from measure_files(root, folders * FILES_PER_FOLDER)
        make_tables(root / "tables", tables)
        make_tables(root / "few", tables // 10)
        yield from measure_tables(root, tables)
    finally:
        shutil.rmtree(root)
