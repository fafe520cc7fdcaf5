"""The key values of an input, found without a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.inputs.copies.key_numbers import KeyNumbers
from airflow_prs.inputs.copies.tables import read_tables
from airflow_prs.inputs.cut_input import find_table, list_input, partitions_in_paths
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import Source, TableSource


def partition_key_values(source: Source, keys: Sequence[str] | None) -> list[dict[str, Any]]:
    """
    Return the different combinations of key values in the order of their first appearance.

    Relative paths start from the working directory.

    :param source: the input; errors show its name.
    :param keys: some of the keys; None: all.
    :raises ConfigError: if a key does not exist.
    :raises InputError: if the files cannot be listed or read.
    """
    listing = list_input(source, base=os.getcwd())  # noqa: PTH109 - as text
    if not len(listing):
        raise EmptyInputError(f"{source.name}: {'; '.join(listing.unmatched)}.")
    if isinstance(source, TableSource) and source.partitioned_by is not None:
        found = _key_values_of_rows(source, listing, _chosen(keys, source.partitioned_by))
    else:
        found = partitions_in_paths(source, listing, keys)
    return list({tuple(partition.values()): partition for partition in found}.values())


def _key_values_of_rows(source: TableSource, listing: Listing, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the different key values of the rows that plan would copy."""
    _, table = find_table(source, listing)
    numbers = KeyNumbers(keys)
    for rows in read_tables(table, listing):
        numbers.assign(rows)
    for values in zip(*numbers.columns(), strict=True):
        yield dict(zip(keys, values, strict=True))


def _chosen(keys: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    if missing := [key for key in keys or () if key not in known]:
        raise ConfigError([f"keys is {keys}; the keys are {list(known)}, so there is no {missing}"])
    return known if keys is None else keys
