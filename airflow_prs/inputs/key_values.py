"""The values of an input's keys, found without a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.parameters import find_parameters
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.inputs.copies.key_numbers import KeyNumbers
from airflow_prs.inputs.copies.tables import read_tables
from airflow_prs.inputs.cut_input import Dataset, describe_rows, list_input, partitions_in_paths
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.records import InputKind


def partition_key_values(dataset: Dataset, keys: Sequence[str] | None) -> list[dict[str, Any]]:
    """
    List the different combinations of key values in the order in which they first appear.

    :param keys: some of the keys; None: all.
    :raises ConfigError: if there is no such key, or the input is known only in a run.
    :raises InputError: if the files cannot be listed or read.
    """
    _require_known(dataset)
    if isinstance(dataset, TabularDataset) and dataset.partitioned_by is not None:
        found = _in_rows(dataset, _chosen(keys, dataset.partitioned_by))
    else:
        found = _in_paths(dataset, keys)
    return list({tuple(partition.values()): partition for partition in found}.values())


def _require_known(dataset: Dataset) -> None:
    """Refuse what stands for something that only a run can tell."""
    if isinstance(dataset, TabularDataset) and dataset.kind is InputKind.QUERY:
        raise ConfigError([f"get_partition_key_values: {dataset!r} is a query, which only plan runs"])
    paths = dataset.path if isinstance(dataset.path, tuple) else (dataset.path,)
    for path in paths:
        if not isinstance(path, str) or "{{" in path or list(find_parameters(path)):
            problem = f"get_partition_key_values: path is {path!r}, which only a run knows; give the path itself"
            raise ConfigError([problem])


def _in_paths(dataset: Dataset, keys: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    return partitions_in_paths(dataset, _listed(dataset), keys)


def _in_rows(dataset: TabularDataset, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read the rows of what is to be copied."""
    # A target that only a run knows is of no copy that could be below the source already.
    source = dataset if isinstance(dataset.target, str) else replace(dataset, target=None)
    listing = _listed(source)
    _, spec = describe_rows(source, listing)
    numbers = KeyNumbers(keys)
    for table in read_tables(source, listing.paths, spec):
        numbers.feed(table)
    for values in zip(*numbers.columns(), strict=True):
        yield dict(zip(keys, values, strict=True))


def _listed(dataset: Dataset) -> Listing:
    listing = list_input(dataset, base=os.getcwd())  # noqa: PTH109 - as text
    if not len(listing):
        raise EmptyInputError(f"{dataset!r}: {'; '.join(listing.unmatched)}.")
    return listing


def _chosen(keys: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    if missing := [key for key in keys or () if key not in known]:
        raise ConfigError([f"keys is {keys}; there are the keys {list(known)}, but no {missing}"])
    return known if keys is None else keys
