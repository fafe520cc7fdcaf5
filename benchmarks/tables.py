"""Compare scoring a table with a model, from row groups to text, with scripts that people would write by hand."""

from __future__ import annotations

import atexit
import functools
import io
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from airflow_prs.cli.job import Job, plan_job
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.result.merge import merge_run
from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, new_folder, work_s
from tests.shards import Tries

ROWS, COLUMNS, FILES, GROUPS = 2_000_000, 10, 8, 4
TRAINING_ROWS = 10_000

SCORE = """
import argparse, pickle

def init():
    global model
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    with open(parser.parse_known_args()[0].model, "rb") as file:
        model = pickle.load(file)

def run(mini_batch):
    return mini_batch.assign(prediction=model.predict(mini_batch.to_numpy()))
"""


@dataclass(frozen=True)
class Table:
    """
    A folder with Parquet files and a model.

    :param rows: number of rows in each row group.
    """

    path: Path
    rows: int

    @property
    def files(self) -> list[str]:
        """The paths of the Parquet files."""
        return sorted(str(path) for path in self.path.glob("*.parquet"))

    @property
    def model(self) -> str:
        """The path of the pickled model."""
        return str(self.path / "model.pickle")

    @property
    def groups(self) -> list[tuple[str, int]]:
        """All row groups, each with its file and number."""
        return [(file, group) for file in self.files for group in range(GROUPS)]


@functools.cache
def make_table(scale: float) -> Table:
    """
    Write 2,000,000 rows (or fewer, depending on the scale) of 10 float64 into 8 Parquet files, and fit a model.

    The folder is removed when Python ends.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(2)
    rows = int(ROWS * scale) // (FILES * GROUPS)
    path = Path(tempfile.mkdtemp(prefix="airflow_prs-bench-"))
    atexit.register(shutil.rmtree, path)
    table = Table(path, rows)
    for number in range(FILES):
        values = random.normal(size=(rows * GROUPS, COLUMNS))
        columns = {f"x{place}": values[:, place] for place in range(COLUMNS)}
        pq.write_table(pa.table(columns), path / f"part-{number}.parquet", row_group_size=rows)
    values = random.normal(size=(TRAINING_ROWS, COLUMNS))
    model = LogisticRegression().fit(values, values.sum(axis=1) > 0)
    Path(table.model).write_bytes(pickle.dumps(model))
    return table


def ours_s(table: Table) -> float:
    """Return the seconds from the first run() to the last commit, plus those of merge."""
    with new_folder() as path:
        (path / "score.py").write_text(SCORE, encoding="utf-8")
        config = ParallelRunConfig(
            environment=Environment.current(),
            source_directory=str(path),
            entry_script="score.py",
            error_threshold=0,
            output_action="append_row",
            compute_target="local",
            node_count=1,
            process_count_per_node=PROCESSES,
            mini_batch_size=f"{table.rows} rows",
        )
        job = Job(
            config=config,
            name="score",
            base=str(path),
            inputs=(TabularDataset.from_parquet_files(table.files).as_named_input("rows"),),
            side_inputs=(),
            arguments=("--model", table.model),
        )
        folder = plan_job(job, str(path / "out"), nodes=None).folder
        Tries(folder).run()
        began = time.monotonic()
        merge_run(folder)
        return work_s(folder) + time.monotonic() - began


_model: Any = None


def load_model(path: str) -> None:
    global _model  # noqa: PLW0603 - the initializer of a pool can only set globals
    with open(path, "rb") as file:  # noqa: PTH123
        _model = pickle.load(file)


def score(group: tuple[str, int]) -> str:
    """Score a row group with pandas, and return its lines."""
    import pyarrow.parquet as pq

    path, number = group
    frame = pq.ParquetFile(path).read_row_group(number).to_pandas()
    frame["prediction"] = _model.predict(frame.to_numpy())
    return str(frame.to_csv(sep=" ", header=False, index=False))


def score_with_arrow(parts: str, group: tuple[str, int]) -> str:
    """Score a row group as fast as possible by hand, write it into a file, and return the path."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    path, number = group
    table = pq.ParquetFile(path).read_row_group(number)
    values = np.column_stack([column.to_numpy() for column in table.columns])
    table = table.append_column("prediction", pa.array(_model.predict(values)))
    part = os.path.join(parts, f"{os.path.basename(path)}-{number:03}")  # noqa: PTH118
    options = pa.csv.WriteOptions(include_header=False, delimiter=" ")
    pa.csv.write_csv(table, part, options)
    return part


def obvious_s(table: Table) -> float:
    """Return the seconds of a pool whose processes create text with pandas, which the script writes into one file."""

    def run(pool: ProcessPoolExecutor, path: Path) -> None:
        with (path / "result.txt").open("w") as out:
            out.writelines(pool.map(score, table.groups))

    return _pool_s(table, run)


def best_s(table: Table) -> float:
    """Return the seconds of a pool whose processes write parts with Arrow, which the script concatenates."""

    def run(pool: ProcessPoolExecutor, path: Path) -> None:
        parts = pool.map(functools.partial(score_with_arrow, str(path)), table.groups)
        with (path / "result.txt").open("wb") as out:
            for part in parts:
                with open(part, "rb") as lines:  # noqa: PTH123
                    shutil.copyfileobj(lines, out, io.DEFAULT_BUFFER_SIZE * 128)

    return _pool_s(table, run)


def _pool_s(table: Table, run: Callable[[ProcessPoolExecutor, Path], None]) -> float:
    with (
        new_folder() as path,
        ProcessPoolExecutor(PROCESSES, get_context("spawn"), load_model, (table.model,)) as pool,
    ):
        # Start both processes, and load their imports and the model: our processes have already called init() too.
        list(pool.map(_warm_up, [table.files[0]] * PROCESSES * 4))
        began = time.monotonic()
        run(pool, path)
        return time.monotonic() - began


def _warm_up(path: str) -> None:
    import pyarrow.csv  # noqa: F401 - imported before the measurement, because the scripts need it
    import pyarrow.parquet as pq

    frame = pq.ParquetFile(path).read_row_group(0).slice(0, 100).to_pandas()
    _model.predict(frame.to_numpy())
    time.sleep(0.2)


def tables(scale: float) -> list[Comparison]:
    work = f"W2: {int(ROWS * scale):,} rows x 10 float64 in 8 Parquet files, LogisticRegression, text"
    return [
        Comparison(
            work,
            "the obvious script: ProcessPoolExecutor over row groups, pandas.to_csv",
            0.25,
            lambda: ours_s(make_table(scale)),
            lambda: obvious_s(make_table(scale)),
        ),
        Comparison(
            f"{work}, merge included",
            "the best script by hand: the same pool, Arrow's CSV writer, parts concatenated",
            1.25,
            lambda: ours_s(make_table(scale)),
            lambda: best_s(make_table(scale)),
        ),
    ]
