"""Tables as worker processes get them: cut by plan, read mini-batch by mini-batch."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.sizes import parse_size
from airflow_prs.inputs.cut_input import cut_input, list_input
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.records import InputKind
from airflow_prs.worker.reading.readers import make_reader


def cut(
    dataset: FileDataset | TabularDataset, folder: Path, size: int | str = "2 rows", files: Listing | None = None
) -> tuple[Any, list[Any]]:
    """Cut a dataset, called ``t``; gives its reader, and what that loads of each mini-batch."""
    source = dataset.as_named_input("t").to_source()
    files = files or list_input(source, base=str(folder))
    mini_batches, spec = cut_input(source, files, parse_size(size), None, base=str(folder), copies=folder / "inputs")
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


def as_read_in_one_piece(text: bytes, **arguments: Any) -> pd.DataFrame:
    """
    Read delimited text with pandas, and apply what is ours.

    Whole numbers beside missing values that a float would round are Int64, and missing text is never empty text.
    """
    frame = pd.read_csv(io.BytesIO(text), low_memory=False, **arguments)
    words = pd.read_csv(io.BytesIO(text), dtype=object, **arguments)
    for name in frame.columns:
        if frame[name].dtype == pd.Series(["x"]).dtype and all(isinstance(value, str) for value in frame[name]):
            frame[name] = words[name].astype(frame[name].dtype)
        frame[name] = exact(frame[name], list(words[name].dropna()))
    return frame


def exact(column: pd.Series, present: Sequence[object]) -> pd.Series:
    """
    Return a column with the numbers that were written, if a float would round some of them.

    :param present: what was written where the column has values.
    """
    is_whole = all(re.fullmatch(r"\s*[+-]?\d+\s*", str(value), re.ASCII) for value in present)
    if column.dtype != "float64" or not column.hasnans or not is_whole:
        return column
    numbers = list(map(int, present))  # type: ignore[call-overload]
    if all(abs(number) <= 2**53 for number in numbers):
        return column
    found = iter(numbers)
    kind = "Int64" if all(-(2**63) <= number < 2**63 for number in numbers) else "UInt64"
    return pd.Series([None if is_missing else next(found) for is_missing in column.isna()], dtype=kind)
