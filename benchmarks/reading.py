"""Compare loading a mini-batch from a file with reading the file with pandas or pyarrow, on one core."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_prs.config.datasets import TabularDataset
from benchmarks.comparing import Comparison
from tests.tables import cut

FLOATS, FLOAT_ROWS, MIXED_ROWS = 10, 62_000, 100_000
GOAL = 1.2
ENTIRE = {"parquet": "1000000 rows"}
READ_OURS: dict[str, Callable[[str], TabularDataset]] = {
    "csv": TabularDataset.from_delimited_files,
    "parquet": TabularDataset.from_parquet_files,
    "jsonl": TabularDataset.from_json_lines_files,
}


@functools.cache
def make_files() -> Path:
    """Write a table of floats, and a mixed one, in each format; the folder is removed when Python ends."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(1)
    folder = Path(tempfile.mkdtemp(prefix="airflow_prs-bench-"))
    atexit.register(shutil.rmtree, folder)
    numbers = np.arange(MIXED_ROWS)
    mixed = {
        "id": numbers,
        "name": [f"name {n % 1000}" for n in numbers],
        "price": numbers / 7,
        "flag": numbers % 3 == 0,
    }
    floats = {f"x{place}": random.normal(size=FLOAT_ROWS) for place in range(FLOATS)}
    for name, columns in (("floats", floats), ("mixed", mixed)):
        frame = pd.DataFrame(columns)
        frame.to_csv(folder / f"{name}.csv", index=False)
        frame.to_parquet(folder / f"{name}.parquet", index=False)
        frame.to_json(folder / f"{name}.jsonl", orient="records", lines=True, double_precision=15)
    return folder


@functools.cache
def ours(path: Path) -> Callable[[], Any]:
    """Return the function that loads a mini-batch of the entire file, as a worker process does."""
    kind = path.suffix[1:]
    dataset = READ_OURS[kind](str(path))
    reader, mini_batches = cut(dataset, path.parent, ENTIRE.get(kind, "1GB"))
    (mini_batch,) = mini_batches
    return functools.partial(reader.load, *mini_batch)


def theirs(path: Path) -> Any:
    """Read a file with pandas (CSV) or pyarrow."""
    import pandas as pd
    import pyarrow.parquet as pq
    from pyarrow import json

    if path.suffix == ".csv":
        return pd.read_csv(path)
    return (pq.read_table if path.suffix == ".parquet" else json.read_json)(path).to_pandas()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let pandas and pyarrow use one thread, as worker processes do where there is one for each core."""
    import pandas as pd
    import pyarrow as pa

    before = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with pd.option_context("mode.max_threads", 1):
            yield
    finally:
        pa.set_cpu_count(before)


def cpu_s(read: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call."""
    with one_thread():
        began = time.process_time()
        read()
        return time.process_time() - began


def reading(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    folder = make_files()
    rows = {"floats": f"{FLOAT_ROWS:,} rows x {FLOATS} float64", "mixed": f"{MIXED_ROWS:,} rows of four types"}
    peers = {"csv": "pandas.read_csv", "parquet": "pyarrow.parquet, to_pandas", "jsonl": "pyarrow.json, to_pandas"}
    return [
        Comparison(
            f"load a mini-batch of {rows[name]}, {kind}, CPU time",
            peer,
            GOAL,
            lambda path=folder / f"{name}.{kind}": cpu_s(ours(path)),
            lambda path=folder / f"{name}.{kind}": cpu_s(functools.partial(theirs, path)),
            rounds=15,
        )
        for kind, peer in peers.items()
        for name in rows
    ]
