"""Plans over small tables: what each mini-batch's key values and argument of run() would be."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.plan.planning import PlanRequest, PlanResult, make_plan
from airflow_prs.records import RunIdentity
from airflow_prs.worker.reading.readers import make_reader

KINDS = {
    "csv": TabularDataset.from_delimited_files,
    "csv.gz": TabularDataset.from_delimited_files,
    "jsonl": TabularDataset.from_json_lines_files,
    "parquet": TabularDataset.from_parquet_files,
    "feather": TabularDataset.from_arrow_files,
    "arrow": TabularDataset.from_arrow_files,
}
"""What reads the files of each suffix that write_table knows."""


def write_table(path, frame):
    """Write a table, as the suffix of the path says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(frame)
    _, _, suffix = path.name.partition(".")
    if suffix in _WRITERS:
        _WRITERS[suffix](path, frame)
    else:
        _write_arrow(path, pa.Table.from_pandas(frame, preserve_index=False), suffix)


def _write_arrow(path, table, suffix):
    if suffix == "parquet":
        pq.write_table(table, path, row_group_size=2)
    elif suffix == "feather":
        pyarrow.feather.write_feather(table, path, chunksize=2)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)


_WRITERS = {
    "csv": lambda path, frame: frame.to_csv(path, index=False),
    "csv.gz": lambda path, frame: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode())),
    "jsonl": lambda path, frame: frame.to_json(path, orient="records", lines=True),
}


def table_plan(folder, *datasets, run="run", changes=None, **settings) -> PlanResult:
    """
    Plan a run.

    :param folder: where relative paths start, and where the run folder is made.
    :param changes: of the request.
    :param settings: of the configuration.
    """
    script = folder / "score.py"
    if not script.exists():
        script.write_text("def run(mini_batch):\n    return mini_batch\n")
    values = {
        "environment": Environment.current(),
        "entry_script": "score.py",
        "error_threshold": 0,
        "output_action": "append_row",
        "compute_target": "local",
        "node_count": 2,
    }
    request = PlanRequest(
        config=ParallelRunConfig(**(values | settings)),
        datasets=tuple(dataset.as_named_input(f"in{number}") for number, dataset in enumerate(datasets)),
        output=str(folder / "out"),
        run_root=str(folder / "root"),
        dag_folder=str(folder),
        identity=RunIdentity(dag_id="dag", run_id=run, task_id="step", plan=f"plan of {run}"),
    )
    return make_plan(replace(request, **(changes or {})))


def mini_batches(result):
    """Give each mini-batch's key values, and what run() would get."""
    folder, manifest = result.folder, result.manifest
    specs = {spec.name: spec for spec in folder.read_settings().inputs}
    return [_loaded(specs, m) for m in folder.read_mini_batches(0, manifest.mini_batches)]


def _loaded(specs, mini_batch):
    spec = specs[mini_batch.input]
    reader = make_reader({"name": spec.name, "kind": spec.kind.value, "options": dict(spec.options)})
    pieces = [[p.path, p.begin, p.end, p.row_group] if reader.is_table else p.path for p in mini_batch.pieces]
    return mini_batch.partition, reader.load(pieces, mini_batch.items, [p.version for p in mini_batch.pieces])


def partitions(planned):
    """Give the key values of mini-batches."""
    return [partition for partition, _ in planned]


def values(planned, *columns):
    """Give the values of some columns, mini-batch by mini-batch."""
    return [list(zip(*(frame[column] for column in columns), strict=True)) for _, frame in planned]
