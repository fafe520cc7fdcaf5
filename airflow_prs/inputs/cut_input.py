"""One input: its files, its mini-batches, and how worker processes read it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from airflow_prs.config.config import MiniBatchSize, ParallelRunConfig, parse_size
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError, InputError
from airflow_prs.inputs.columnar.arrow import cut_arrow_files
from airflow_prs.inputs.columnar.parquet import cut_parquet_files
from airflow_prs.inputs.columnar.row_groups import add_row_groups
from airflow_prs.inputs.columns import Columns, held_columns, require_fixed_types, wanted_columns
from airflow_prs.inputs.copies.copying import write_copy
from airflow_prs.inputs.copies.partitioned_copy import copy_digest, read_copy
from airflow_prs.inputs.copies.tables import read_tables
from airflow_prs.inputs.cutting import Cut, TableCut, cut_files, cut_partitions
from airflow_prs.inputs.files.listing import Listing, absolute_path, list_files
from airflow_prs.inputs.path_keys import PartitionFormat, PathKeys, find_key_folders, parse_partition_format
from airflow_prs.inputs.text.delimited import Dialect, cut_delimited_files
from airflow_prs.inputs.text.json_lines import cut_json_lines_files
from airflow_prs.records import InputKind, InputSpec
from airflow_prs.worker.values import encode

Dataset = FileDataset | TabularDataset

_DEFAULT_FILES = MiniBatchSize(10, "items")
_DEFAULT_TABLE = MiniBatchSize(1024 * 1024, "bytes")
_WHOLE_FILES = MiniBatchSize(sys.maxsize, "rows")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Say how a dataset is read, apart from where it and its copy are, and from what only bounds memory."""
    apart = {"path", "target", "max_record_size"}
    return {name: value for name, value in dataset.to_spec().items() if name not in apart}


def list_input(
    dataset: Dataset, *, base: str, published: str | None = None, targets: Mapping[str, TabularDataset] | None = None
) -> Listing:
    """
    List the files of a dataset, without those of copies that the run itself writes.

    :param base: folder that relative paths start from.
    :param published: file that is no input.
    :param targets: the real folders of the copies of the run; None: its own alone.
    :raises ConfigError: if nothing else is left.
    :raises InputError: if a file does not exist or cannot be looked at.
    """
    are_tables = isinstance(dataset, TabularDataset)
    listing = list_files(dataset.path, base=base, published=published, are_tables=are_tables)
    rest = listing
    for folder, copied in (real_targets([dataset], base) if targets is None else targets).items():
        if not Path(folder).is_dir():
            continue
        rest = rest.without(partial(_is_in, f"{folder}/"))
        if len(listing) and not len(rest):
            holds = "the input itself" if copied.name == dataset.name else f"the input {dataset.name!r}"
            raise ConfigError([f"target of {copied.name!r} is {copied.target!r}, which holds {holds}"])
    return rest


def _is_in(folder: str, path: str) -> bool:
    return os.path.realpath(path).startswith(folder)


def real_targets(datasets: Sequence[Dataset], base: str) -> dict[str, TabularDataset]:
    """
    Give the folders that copies are to be in, each with its input.

    :param base: folder that relative paths start from.
    :raises ConfigError: if two inputs have one target.
    """
    taken: dict[str, TabularDataset] = {}
    for dataset in datasets:
        if isinstance(dataset, TabularDataset) and dataset.target is not None:
            other = taken.setdefault(os.path.realpath(absolute_path(dataset.target, base)), dataset)
            if other.name != dataset.name:
                problem = (
                    f"target of {dataset.name!r} is {dataset.target!r}, as is that of {other.name!r}; "
                    "give each a folder of its own"
                )
                raise ConfigError([problem])
    return taken


def cut_input(
    dataset: Dataset, listing: Listing, config: ParallelRunConfig, *, base: str, copies: Path
) -> tuple[Cut, InputSpec]:
    """
    Cut one input into mini-batches; a copy that it asks for is written first.

    :param listing: its files.
    :param base: folder that relative paths start from.
    :param copies: folder of the copies that are not to be elsewhere.
    :raises ConfigError: if the configuration and the dataset do not go together.
    :raises InputError: if a file cannot be read or cut.
    :raises InputChangedError: if a file changes meanwhile.
    """
    if isinstance(dataset, FileDataset):
        cut, spec = _cut_files(dataset, listing, config)
    elif dataset.partitioned_by is not None:
        target = Path(absolute_path(dataset.target, base)) if dataset.target else copies / str(dataset.name)
        return _cut_copy(dataset, listing, config, dataset.partitioned_by, target)
    else:
        with _unchanged(listing):
            cut, spec = _cut_table(dataset, listing, config)
    cut.note_versions(listing.versions)
    return cut, spec


def partitions_in_paths(
    dataset: Dataset, listing: Listing, chosen: Sequence[str] | None
) -> Iterator[dict[str, str | datetime | None]]:
    """
    Take the values of keys from the paths of all files that hold anything.

    :param chosen: some of the keys; None: all.
    :raises ConfigError: if there is no such key.
    :raises InputError: if a path does not have the keys.
    """
    keys = _path_keys(dataset, listing)
    values = _chosen_values(
        repr(dataset), keys, keys.keys if keys and chosen is None else chosen or (), given_as="keys"
    )
    for path, size in zip(listing.paths, listing.sizes, strict=True):
        if size:
            yield values(path)


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
    require_fixed_types(name, dataset.dtypes or {})
    keys = _path_keys(dataset, listing)
    if config.partition_keys is not None:
        partition_of = _chosen_values(name, keys, config.partition_keys)
        cut, spec = _cut_rows(dataset, listing, _WHOLE_FILES, keys)
        cut = cut.gather(lambda file: partition_of(listing.paths[file]))
    else:
        _require_match(keys, listing)
        cut, spec = _cut_rows(dataset, listing, _mini_batch_size(config, _DEFAULT_TABLE), keys)
    return cut, spec


def _cut_copy(
    dataset: TabularDataset, listing: Listing, config: ParallelRunConfig, keys: Sequence[str], target: Path
) -> tuple[Cut, InputSpec]:
    """Cut a partitioned copy: by its index, as its files may be very many."""
    name = str(dataset.name)
    _require_keys(name, keys, config.partition_keys or (), has=f"is partitioned by {list(keys)}")
    with _unchanged(listing):
        rows, source = describe_rows(dataset, listing)
    if not rows:
        return Cut(name, ()), source
    digest = copy_digest(describe(dataset), listing) if dataset.target else None
    copy = read_copy(target, digest) if digest else None
    if copy is None:
        copy = write_copy(name, _unchanged_tables(dataset, listing, source), keys, target, digest)
    if sum(copy.rows) != rows:
        raise InputError(
            f"{sum(copy.rows)} rows of {name!r} were copied where {rows} had been counted, though its files have not "
            "changed meanwhile. This is a fault of airflow_prs: please report it."
        )
    size = _WHOLE_FILES if config.partition_keys else _mini_batch_size(config, _DEFAULT_TABLE)
    cut = TableCut(name, copy.paths)
    for number in range(len(copy.paths)):
        add_row_groups(cut, number, copy.row_groups(number), size.count, is_bytes=size.unit != "rows")
    if config.partition_keys:
        chosen = config.partition_keys
        cut = cut.gather(lambda number: copy.partition(number, chosen))
    cut.note_versions(Listing.of(copy.paths).versions)
    return cut, InputSpec(name=name, kind=InputKind.PARQUET, options=copy.options(), partition_keys=tuple(keys))


@contextmanager
def _unchanged(listing: Listing) -> Iterator[None]:
    """
    Read files that must not change meanwhile.

    :raises InputChangedError: if one does; it says more than what that may have led to.
    """
    try:
        yield
    except Exception:
        listing.require_unchanged()
        raise
    listing.require_unchanged()


def _unchanged_tables(dataset: TabularDataset, listing: Listing, source: InputSpec) -> Iterator[Any]:
    with _unchanged(listing):
        yield from read_tables(dataset, listing.paths, source)


def describe_rows(dataset: TabularDataset, listing: Listing) -> tuple[int, InputSpec]:
    """
    Count the rows that a copy is to hold, and say how they are read.

    :raises ConfigError: if they lack a column that they are to be partitioned by.
    :raises InputError: if a file cannot be read.
    """
    keys = _path_keys(dataset, listing)
    _require_match(keys, listing)
    cut, source = _cut_rows(dataset, listing, _WHOLE_FILES, keys)
    columns = columns_of(source)
    missing = [key for key in dataset.partitioned_by or () if key not in columns]
    if missing and source.options["columns"] is not None:
        problem = f"partition_by of {dataset.name!r} names {missing}, but there are the columns {columns}"
        raise ConfigError([problem])
    return sum(cut.items), source


def columns_of(spec: InputSpec) -> list[str]:
    """Name the columns that run() gets."""
    path_keys = spec.options.get("path_keys", {"keys": []})
    known = spec.options["chosen"] or spec.options["columns"] or []
    return list(path_keys.get("order") or [*known, *(key[0] for key in path_keys["keys"])])


def _cut_rows(
    dataset: TabularDataset, listing: Listing, size: MiniBatchSize, keys: PathKeys | None
) -> tuple[TableCut, InputSpec]:
    """Cut the rows of each file."""
    key_names = keys.keys if keys else ()
    cut, found, options = _cut_files_of(dataset, listing, size, key_names)
    options |= found.chosen(str(dataset.name), dataset.columns, dataset.dropped, key_names)
    spec = InputSpec(name=str(dataset.name), kind=dataset.kind, options=options)
    return cut, _with_key_columns(spec, keys, dataset) if keys else spec


def _cut_files_of(
    dataset: TabularDataset, listing: Listing, size: MiniBatchSize, keys: Sequence[str]
) -> tuple[TableCut, Columns, dict[str, Any]]:
    """Give the mini-batches of files, their columns, and how they are written."""
    name = str(dataset.name)
    is_bytes = size.unit != "rows"
    choose = partial(held_columns, columns=dataset.columns, dropped=dataset.dropped, keys=keys)
    if dataset.kind is InputKind.PARQUET:
        cut, found = cut_parquet_files(
            name, listing.paths, size.count, is_bytes=is_bytes, choose=choose, rows_filter=dataset.filter
        )
        return cut, found, {"filter": encode(dataset.filter)}
    if dataset.kind is InputKind.ARROW:
        cut, found = cut_arrow_files(name, listing.paths, listing.sizes, size.count, is_bytes=is_bytes, choose=choose)
        return cut, found, {}
    if dataset.kind is InputKind.JSON_LINES:
        cut, found = cut_json_lines_files(
            name,
            listing.paths,
            str(dataset.encoding),
            size.count,
            is_bytes=is_bytes,
            dtypes=dataset.dtypes,
            max_record_size=dataset.max_record_size,
        )
        return cut, found, {"encoding": dataset.encoding}
    dialect = Dialect(
        str(dataset.separator),
        str(dataset.encoding),
        bool(dataset.header),
        dataset.header != "each",
        dataset.comment,
        dataset.max_record_size,
    )
    cut, found = cut_delimited_files(
        name, listing.paths, dialect, size.count, is_bytes=is_bytes, dtypes=dataset.dtypes or {}
    )
    options = {
        "separator": dataset.separator,
        "header": dataset.header,
        "encoding": dataset.encoding,
        "comment": dataset.comment,
    }
    return cut, found, options


def _path_keys(dataset: Dataset, listing: Listing) -> PathKeys | None:
    if dataset.partition_format is not None:
        return parse_partition_format(dataset.partition_format)
    return find_key_folders(listing.paths)


def _require_match(keys: PathKeys | None, listing: Listing) -> None:
    if keys:
        for path in listing.paths:
            keys.read(path)


def _chosen_values(
    name: str, keys: PathKeys | None, chosen: Sequence[str], *, given_as: str = "partition_keys"
) -> Callable[[str], dict[str, str | datetime | None]]:
    """
    Make what takes the values of the chosen keys from a path.

    :param given_as: the parameter that chose them.
    """
    if keys is None:
        has = "has no partition_format and no folders named key=value"
        raise ConfigError([f"{given_as} is {list(chosen)}; {name!r} {has}, so it cannot be cut by {list(chosen)}"])
    _require_keys(name, keys.keys, chosen, has=f"has the keys {list(keys.keys)}", given_as=given_as)

    def values(path: str) -> dict[str, str | datetime | None]:
        found = keys.read(path)
        return {key: found[key] for key in chosen}

    return values


def _require_keys(
    name: str, keys: Sequence[str], chosen: Sequence[str], *, has: str, given_as: str = "partition_keys"
) -> None:
    if missing := [key for key in chosen if key not in keys]:
        raise ConfigError([f"{given_as} is {list(chosen)}; {name!r} {has}, so it cannot be cut by {missing}"])


def _with_key_columns(spec: InputSpec, keys: PathKeys, dataset: TabularDataset) -> InputSpec:
    """
    Let worker processes add the keys' columns.

    Where the files of key folders hold such a column themselves, as some writers leave it, that one is taken.
    """
    columns = spec.options["columns"] or ()
    if isinstance(keys, PartitionFormat) and (doubled := [key for key in keys.keys if key in columns]):
        problem = (
            f"partition_format of {spec.name!r} is {keys.text!r}; its files have columns named {doubled}, too: "
            "give these keys other names"
        )
        raise ConfigError([problem])
    described = keys.describe()
    described["keys"] = [key for key in described["keys"] if key[0] not in columns]
    there = [*columns, *(key[0] for key in described["keys"])]
    wanted = wanted_columns(there, dataset.columns, dataset.dropped, keys.keys)
    if wanted is not None:
        described["order"] = wanted
    return replace(spec, options={**spec.options, "path_keys": described}, partition_keys=keys.keys)


def _mini_batch_size(config: ParallelRunConfig, default: MiniBatchSize) -> MiniBatchSize:
    return default if config.mini_batch_size is None else parse_size(config.mini_batch_size)
