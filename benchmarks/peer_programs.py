"""
Run a row of the benchmark with Joblib, Dask or Ray Data: ``python -m benchmarks.peer_programs dask W1``.

Each program follows the documentation of its library, and uses two processes that start before the measurement. The
program runs in a separate environment without this package. It prints the version and the seconds.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROCESSES = 2
WORK: dict[str, tuple[int, int]] = {"W1": (2000, 10), "W3": (200, 1)}
"""Number of mini-batches, and of items in each mini-batch."""

BUSY_S = 0.02


def base_names(mini_batch: list[str]) -> list[str]:
    return [os.path.basename(path) for path in mini_batch]


def busy(mini_batch: list[str]) -> list[str]:
    end = time.process_time() + BUSY_S
    while time.process_time() < end:
        pass
    return mini_batch


def mini_batches(row: str) -> list[list[str]]:
    """Return the items of all mini-batches of a row."""
    count, items = WORK[row]
    return [[f"item-{number * items + place}" for place in range(items)] for number in range(count)]


def function(row: str) -> Callable[[list[str]], list[str]]:
    return base_names if row == "W1" else busy


class Scorer:
    """Scores DataFrames with a pickled model."""

    def __init__(self, path: str) -> None:
        self._model = pickle.loads(Path(path).read_bytes())

    def __call__(self, frame: Any) -> Any:
        """Return the frame with a column of predictions."""
        return frame.assign(prediction=self._model.predict(frame.to_numpy()))


def score_group(model: str, path: str, group: int) -> str:
    """Score a row group, and return its lines."""
    import pyarrow.parquet as pq

    frame = Scorer(model)(pq.ParquetFile(path).read_row_group(group).to_pandas())
    return str(frame.to_csv(sep=" ", header=False, index=False))


def row_groups(table: str) -> list[tuple[str, int]]:
    import pyarrow.parquet as pq

    files = sorted(str(path) for path in Path(table).glob("*.parquet"))
    return [(file, group) for file in files for group in range(pq.ParquetFile(file).num_row_groups)]


def with_joblib(row: str, table: str, output: Path) -> float:
    from joblib import Parallel, delayed

    with Parallel(n_jobs=PROCESSES) as parallel:
        parallel(delayed(time.sleep)(0.2) for _ in range(2 * PROCESSES))
        began = time.monotonic()
        if row == "W2":
            model = str(Path(table, "model.pickle"))
            with (output / "result.txt").open("w") as out:
                out.writelines(parallel(delayed(score_group)(model, *group) for group in row_groups(table)))
        else:
            parallel(delayed(function(row))(mini_batch) for mini_batch in mini_batches(row))
        return time.monotonic() - began


def with_dask(row: str, table: str, output: Path) -> float:
    import dask.dataframe as dd
    from dask.distributed import Client

    with Client(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None) as client:
        client.gather(client.map(time.sleep, [0.2] * 2 * PROCESSES, pure=False))
        began = time.monotonic()
        if row == "W2":
            rows = dd.read_parquet(f"{table}/*.parquet", split_row_groups=True)
            scored = rows.map_partitions(Scorer(str(Path(table, "model.pickle"))))
            scored.to_csv(str(output / "result.txt"), single_file=True, sep=" ", header=False, index=False)
        else:
            client.gather(client.map(function(row), mini_batches(row)))
        return time.monotonic() - began


def with_ray(row: str, table: str, output: Path) -> float:
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    ray.data.range(10).map_batches(lambda batch: batch, batch_size=1).materialize()
    began = time.monotonic()
    _ray_table(table, output) if row == "W2" else _ray_items(row)
    return time.monotonic() - began


def _ray_items(row: str) -> None:
    import ray

    items = WORK[row][1]
    work = function(row)
    paths = ray.data.from_items([item for mini_batch in mini_batches(row) for item in mini_batch])
    paths.map_batches(lambda batch: {"item": work(list(batch["item"]))}, batch_size=items).take_all()


def _ray_table(table: str, output: Path) -> None:
    import ray

    rows = ray.data.read_parquet(sorted(str(path) for path in Path(table).glob("*.parquet")))
    scored = rows.map_batches(
        Scorer,
        fn_constructor_args=(str(Path(table, "model.pickle")),),
        batch_format="pandas",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=PROCESSES),
        num_cpus=0.5,
    )
    scored.write_csv(str(output / "parts"), arrow_csv_args_fn=_csv_arguments)
    with (output / "result.txt").open("wb") as out:
        for part in sorted((output / "parts").iterdir()):
            out.write(part.read_bytes())


def _csv_arguments() -> dict[str, Any]:
    import pyarrow.csv

    return {"write_options": pyarrow.csv.WriteOptions(include_header=False, delimiter=" ")}


PROGRAMS = {"joblib": with_joblib, "dask": with_dask, "ray": with_ray}


def main() -> None:
    name, row, table = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="airflow_prs-bench-") as output:
        seconds = PROGRAMS[name](row, table, Path(output))
    print(json.dumps({"version": version(name), "seconds": seconds}))


if __name__ == "__main__":
    main()
