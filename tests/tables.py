"""Tables as worker processes get them: cut by plan, read mini-batch by mini-batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_prs.config import ParallelRunConfig
from airflow_prs.datasets import FileDataset, TabularDataset
from airflow_prs.environment import Environment
from airflow_prs.plan.inputs import cut_input, list_input
from airflow_prs.plan.listing import Listing
from airflow_prs.records import InputKind
from airflow_prs.worker.readers import make_reader


def cut(
    dataset: FileDataset | TabularDataset, folder: Path, size: int | str = "2 rows", files: Listing | None = None
) -> tuple[Any, list[Any]]:
    """Cut a dataset, called ``t``; gives its reader, and what that loads of each mini-batch."""
    config = ParallelRunConfig(
        environment=Environment.current(),
        entry_script="score.py",
        error_threshold=0,
        output_action="append_row",
        compute_target="local",
        node_count=1,
        mini_batch_size=size,
    )
    files = files or list_input(dataset, base=str(folder))
    mini_batches, spec = cut_input(
        dataset.as_named_input("t"), files, config, base=str(folder), copies=folder / "inputs"
    )
    options = json.loads(json.dumps(dict(spec.options)))
    reader = make_reader({"name": "t", "kind": spec.kind.value, "options": options})
    whole = spec.kind is InputKind.FILES
    return reader, [
        (
            [p.path if whole else [p.path, p.begin, p.end, p.row_group] for p in m.pieces],
            m.items,
            [p.version for p in m.pieces],
        )
        for m in mini_batches.mini_batches(0)
    ]


def mini_batches(dataset: FileDataset | TabularDataset, folder: Path, size: int | str = "2 rows") -> list[Any]:
    """Cut a dataset and read each mini-batch as a worker process does."""
    reader, pieces = cut(dataset, folder, size)
    return [reader.load(*piece) for piece in pieces]


def together(dataset: TabularDataset, folder: Path, size: str = "2 rows") -> pd.DataFrame:
    """Put the rows of all mini-batches one after the other."""
    return pd.concat(mini_batches(dataset, folder, size), ignore_index=True)
