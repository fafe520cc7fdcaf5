"""One input: its files, its mini-batches, and how worker processes read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_prs.config import MiniBatchSize, ParallelRunConfig, parse_size
from airflow_prs.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.plan.cutting import Cut, cut_files, cut_partitions
from airflow_prs.plan.delimited import Dialect, cut_delimited_files
from airflow_prs.plan.listing import Listing, absolute_path, list_files
from airflow_prs.plan.parquet import cut_parquet_files
from airflow_prs.plan.partitions import PartitionFormat, parse_partition_format
from airflow_prs.records import InputKind, InputSpec

Dataset = FileDataset | TabularDataset

_DEFAULT_FILES = MiniBatchSize(10, "items")
_DEFAULT_TABLE = MiniBatchSize(1024 * 1024, "bytes")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Say how a dataset is read, apart from its path."""
    return {name: value for name, value in dataset.to_spec().items() if name != "path"}


def cut_input(dataset: Dataset, listing: Listing, config: ParallelRunConfig) -> tuple[Cut, InputSpec]:
    """
    Cut one input into mini-batches.

    :param listing: its files.
    :raises ConfigError: if the configuration and the dataset do not go together.
    :raises InputError: if a file cannot be read or cut.
    """
    if isinstance(dataset, FileDataset):
        return _cut_files(dataset, listing, config)
    return _cut_table(dataset, listing, config)


def local_path(dataset: Dataset, base: str) -> tuple[str, Listing]:
    """
    Find the one file or folder that a side input is, and all files in it.

    :param base: folder that relative paths start from.
    :raises ConfigError: if it is more than one.
    :raises EmptyInputError: if a pattern matched nothing.
    """
    paths: Sequence[str] = (dataset.path,) if isinstance(dataset.path, str) else dataset.path
    listing = list_files(paths, base=base)
    only = absolute_path(paths[0], base)
    if len(paths) == 1 and Path(only).exists():
        return only, listing
    if listing.unmatched:
        raise EmptyInputError(f"side input {dataset.name!r}: {'; '.join(listing.unmatched)}.")
    if len(listing) == 1:
        return listing.paths[0], listing
    problem = (
        f"side_inputs: {dataset.name!r} stands for {len(listing)} files; allowed: one file, or one folder with them"
    )
    raise ConfigError([problem])


def _cut_files(dataset: FileDataset, listing: Listing, config: ParallelRunConfig) -> tuple[Cut, InputSpec]:
    name = str(dataset.name)
    form = parse_partition_format(dataset.partition_format) if dataset.partition_format is not None else None
    spec = InputSpec(name=name, kind=InputKind.FILES, partition_keys=form.keys if form else ())
    if config.partition_keys is not None:
        keys = _chosen_keys(name, form, config.partition_keys)
        values = [form.read(path) for path in listing.paths] if form else []
        partitions = ({key: value[key] for key in keys} for value in values)
        return cut_partitions(name, listing.paths, listing.sizes, partitions), spec
    if form:
        for path in listing.paths:
            form.read(path)
    size = _mini_batch_size(config, _DEFAULT_FILES)
    if size.unit != "items":
        raise ConfigError(
            [f"mini_batch_size is {config.mini_batch_size!r}; allowed for the files of {name!r}: a number of files"]
        )
    return cut_files(name, listing.paths, listing.sizes, size.count), spec


def _chosen_keys(name: str, form: PartitionFormat | None, keys: Sequence[str]) -> Sequence[str]:
    known = form.keys if form else ()
    missing = [key for key in keys if key not in known]
    if missing:
        has = f"has the keys {list(known)}" if form else "has no partition_format"
        raise ConfigError([f"partition_keys is {list(keys)}; {name!r} {has}, so it cannot be cut by {missing}"])
    return keys


def _cut_table(dataset: TabularDataset, listing: Listing, config: ParallelRunConfig) -> tuple[Cut, InputSpec]:
    name = str(dataset.name)
    for parameter, value in (
        ("partition_keys", config.partition_keys),
        ("partition_format", dataset.partition_format),
    ):
        if value is not None:
            raise ConfigError([f"{parameter} is {value!r}; it is not supported yet for tables, such as {name!r}"])
    size = _mini_batch_size(config, _DEFAULT_TABLE)
    is_bytes = size.unit != "rows"
    if dataset.kind is InputKind.PARQUET:
        cut, columns = cut_parquet_files(name, listing.paths, size.count, is_bytes=is_bytes)
        return cut, InputSpec(name=name, kind=InputKind.PARQUET, options={"columns": columns})
    dialect = Dialect(str(dataset.separator), str(dataset.encoding), bool(dataset.header))
    cut, columns = cut_delimited_files(name, listing.paths, dialect, size.count, is_bytes=is_bytes)
    options = {
        "separator": dataset.separator,
        "header": dataset.header,
        "encoding": dataset.encoding,
        "columns": columns,
        "dtypes": None,  # the place of types that hold for all mini-batches; None: each is read by itself
    }
    return cut, InputSpec(name=name, kind=InputKind.DELIMITED, options=options)


def _mini_batch_size(config: ParallelRunConfig, default: MiniBatchSize) -> MiniBatchSize:
    return default if config.mini_batch_size is None else parse_size(config.mini_batch_size)
