"""One input: its files, its mini-batches, and how worker processes read it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_prs.config import MiniBatchSize, ParallelRunConfig, parse_size
from airflow_prs.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.plan.arrow import cut_arrow_files
from airflow_prs.plan.cutting import Cut, TableCut, cut_files, cut_partitions
from airflow_prs.plan.delimited import Dialect, cut_delimited_files
from airflow_prs.plan.json_lines import cut_json_lines_files
from airflow_prs.plan.listing import Listing, absolute_path, list_files
from airflow_prs.plan.parquet import cut_parquet_files
from airflow_prs.plan.partitions import PartitionFormat, PathKeys, find_key_folders, parse_partition_format
from airflow_prs.records import InputKind, InputSpec

Dataset = FileDataset | TabularDataset

_DEFAULT_FILES = MiniBatchSize(10, "items")
_DEFAULT_TABLE = MiniBatchSize(1024 * 1024, "bytes")
_WHOLE_FILES = MiniBatchSize(sys.maxsize, "rows")


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
    keys = _path_keys(dataset, listing) if dataset.partition_format or config.partition_keys else None
    spec = InputSpec(name=name, kind=InputKind.FILES, partition_keys=keys.keys if keys else ())
    if config.partition_keys is not None:
        partition_of = _chosen_values(name, keys, config.partition_keys)
        return cut_partitions(name, listing.paths, listing.sizes, map(partition_of, listing.paths)), spec
    _require_match(keys, listing)
    size = _mini_batch_size(config, _DEFAULT_FILES)
    if size.unit != "items":
        raise ConfigError(
            [f"mini_batch_size is {config.mini_batch_size!r}; allowed for the files of {name!r}: a number of files"]
        )
    return cut_files(name, listing.paths, listing.sizes, size.count), spec


def _cut_table(dataset: TabularDataset, listing: Listing, config: ParallelRunConfig) -> tuple[Cut, InputSpec]:
    name = str(dataset.name)
    keys = _path_keys(dataset, listing)
    if config.partition_keys is not None:
        partition_of = _chosen_values(name, keys, config.partition_keys)
        cut, spec = _cut_rows(dataset, listing, _WHOLE_FILES)
        cut = cut.gather(partition_of)
    else:
        _require_match(keys, listing)
        cut, spec = _cut_rows(dataset, listing, _mini_batch_size(config, _DEFAULT_TABLE))
    return cut, _with_key_columns(spec, keys) if keys else spec


def _cut_rows(dataset: TabularDataset, listing: Listing, size: MiniBatchSize) -> tuple[TableCut, InputSpec]:
    """Cut the rows of each file, with nothing known of keys."""
    name = str(dataset.name)
    is_bytes = size.unit != "rows"
    if dataset.kind is InputKind.PARQUET:
        cut, found = cut_parquet_files(name, listing.paths, size.count, is_bytes=is_bytes, rows_filter=dataset.filter)
        options = {"filter": dataset.filter, **found.chosen(name, dataset.columns, dataset.dropped)}
        return cut, InputSpec(name=name, kind=InputKind.PARQUET, options=options)
    if dataset.kind is InputKind.ARROW:
        cut, found = cut_arrow_files(name, listing.paths, listing.sizes, size.count, is_bytes=is_bytes)
        return cut, InputSpec(
            name=name, kind=InputKind.ARROW, options=found.chosen(name, dataset.columns, dataset.dropped)
        )
    if dataset.kind is InputKind.JSON_LINES:
        cut, found = cut_json_lines_files(
            name, listing.paths, str(dataset.encoding), size.count, is_bytes=is_bytes, dtypes=dataset.dtypes
        )
        options = {"encoding": dataset.encoding, **found.chosen(name, dataset.columns, dataset.dropped)}
        return cut, InputSpec(name=name, kind=InputKind.JSON_LINES, options=options)
    dialect = Dialect(
        str(dataset.separator), str(dataset.encoding), bool(dataset.header), dataset.header != "each", dataset.comment
    )
    cut, known = cut_delimited_files(
        name, listing.paths, dialect, size.count, is_bytes=is_bytes, dtypes=dataset.dtypes or {}
    )
    options = {
        "separator": dataset.separator,
        "header": dataset.header,
        "encoding": dataset.encoding,
        "comment": dataset.comment,
        **known.chosen(name, dataset.columns, dataset.dropped),
    }
    return cut, InputSpec(name=name, kind=InputKind.DELIMITED, options=options)


def _path_keys(dataset: Dataset, listing: Listing) -> PathKeys | None:
    if dataset.partition_format is not None:
        return parse_partition_format(dataset.partition_format)
    return find_key_folders(listing.paths)


def _require_match(keys: PathKeys | None, listing: Listing) -> None:
    if keys:
        for path in listing.paths:
            keys.read(path)


def _chosen_values(
    name: str, keys: PathKeys | None, chosen: Sequence[str]
) -> Callable[[str], dict[str, str | datetime | None]]:
    """Make what takes the values of the chosen keys from a path."""
    missing = [key for key in chosen if keys is None or key not in keys.keys]
    if keys is None or missing:
        has = f"has the keys {list(keys.keys)}" if keys else "has no partition_format and no folders named key=value"
        raise ConfigError([f"partition_keys is {list(chosen)}; {name!r} {has}, so it cannot be cut by {missing}"])

    def values(path: str) -> dict[str, str | datetime | None]:
        found = keys.read(path)
        return {key: found[key] for key in chosen}

    return values


def _with_key_columns(spec: InputSpec, keys: PathKeys) -> InputSpec:
    """
    Let worker processes add the keys' columns.

    Where the files of key folders hold such a column themselves, as some writers leave it, that one is taken.
    """
    columns = spec.options.get("columns") or ()
    if isinstance(keys, PartitionFormat) and (doubled := [key for key in keys.keys if key in columns]):
        problem = (
            f"partition_format of {spec.name!r} is {keys.text!r}; its files have columns named {doubled}, too: "
            "give these keys other names"
        )
        raise ConfigError([problem])
    described = keys.describe()
    described["keys"] = [key for key in described["keys"] if key[0] not in columns]
    return replace(spec, options={**spec.options, "path_keys": described}, partition_keys=keys.keys)


def _mini_batch_size(config: ParallelRunConfig, default: MiniBatchSize) -> MiniBatchSize:
    return default if config.mini_batch_size is None else parse_size(config.mini_batch_size)
