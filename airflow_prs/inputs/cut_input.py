"""One input: its files, its mini-batches, and how worker processes read it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from airflow_prs.errors import ConfigError, EmptyInputError, InputError
from airflow_prs.inputs.columnar.arrow import cut_arrow_files
from airflow_prs.inputs.columnar.parquet import cut_parquet_files
from airflow_prs.inputs.columnar.row_groups import add_row_groups
from airflow_prs.inputs.columns import Columns, Table, require_fixed_types, wanted_columns
from airflow_prs.inputs.copies.copying import write_copy
from airflow_prs.inputs.copies.partitioned_copy import copy_digest, read_copy
from airflow_prs.inputs.copies.tables import read_tables
from airflow_prs.inputs.cutting import Cut, TableCut, cut_files, cut_partitions
from airflow_prs.inputs.files.listing import Listing, absolute_path, list_files
from airflow_prs.inputs.path_keys import PartitionFormat, PathKeys, find_key_folders, parse_partition_format
from airflow_prs.inputs.sources import (
    ArrowSource,
    DelimitedSource,
    JsonLinesSource,
    MiniBatchSize,
    ParquetSource,
    Source,
    TableSource,
)
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.inputs.text.json_lines import cut_json_lines_files
from airflow_prs.records import InputSpec

_DEFAULT_FILES = MiniBatchSize(10, "items")
_DEFAULT_TABLE = MiniBatchSize(1024 * 1024, "bytes")
_WHOLE_FILES = MiniBatchSize(sys.maxsize, "rows")


def list_input(
    source: Source, *, base: str, published: str | None = None, targets: Mapping[str, TableSource] | None = None
) -> Listing:
    """
    List the files of an input, without those of copies that the run itself writes.

    :param base: folder that relative paths start from.
    :param published: file that is no input.
    :param targets: the real folders of the copies of the run; None: its own alone.
    :raises ConfigError: if nothing else is left.
    :raises InputError: if a file does not exist or cannot be looked at.
    """
    listing = list_files(source.paths, base=base, published=published, are_tables=isinstance(source, TableSource))
    rest = listing
    for folder, copied in (real_targets([source], base) if targets is None else targets).items():
        if not Path(folder).is_dir():
            continue
        rest = rest.without(partial(_is_in, f"{folder}/"))
        if len(listing) and not len(rest):
            holds = "the input itself" if copied.name == source.name else f"the input {source.name!r}"
            raise ConfigError([f"target of {copied.name!r} is {copied.target!r}, which holds {holds}"])
    return rest


def _is_in(folder: str, path: str) -> bool:
    return os.path.realpath(path).startswith(folder)


def real_targets(sources: Sequence[Source], base: str) -> dict[str, TableSource]:
    """
    Return the real folders that copies are to be in, each with its input.

    :param base: folder that relative paths start from.
    :raises ConfigError: if two inputs have one target.
    """
    taken: dict[str, TableSource] = {}
    for source in sources:
        if isinstance(source, TableSource) and source.target is not None:
            other = taken.setdefault(os.path.realpath(absolute_path(source.target, base)), source)
            if other.name != source.name:
                problem = (
                    f"target of {source.name!r} is {source.target!r}, as is that of {other.name!r}; "
                    "give each a folder of its own"
                )
                raise ConfigError([problem])
    return taken


def cut_input(
    source: Source,
    listing: Listing,
    size: MiniBatchSize | None,
    partition_keys: Sequence[str] | None,
    *,
    base: str,
    copies: Path,
) -> tuple[Cut, InputSpec]:
    """
    Cut one input into mini-batches; a copy that it asks for is written first.

    :param listing: its files.
    :param size: of a mini-batch; None: 10 files, or 1 MB of a table.
    :param partition_keys: keys whose values all items of a mini-batch share; None: it is cut by size.
    :param base: folder that relative paths start from.
    :param copies: folder of the copies that are not to be elsewhere.
    :raises ConfigError: if the source cannot be cut so.
    :raises InputError: if a file cannot be read or cut.
    :raises InputChangedError: if a file changes meanwhile.
    """
    if not isinstance(source, TableSource):
        cut, spec = _cut_files(source, listing, size or _DEFAULT_FILES, partition_keys)
    elif source.partitioned_by is not None:
        target = Path(absolute_path(source.target, base)) if source.target else copies / source.name
        return _cut_copy(source, listing, size or _DEFAULT_TABLE, partition_keys, target)
    else:
        with _unchanged(listing):
            cut, spec = _cut_table(source, listing, size or _DEFAULT_TABLE, partition_keys)
    cut.note_versions(listing.versions)
    return cut, spec


def partitions_in_paths(
    source: Source, listing: Listing, chosen: Sequence[str] | None
) -> Iterator[dict[str, str | datetime | None]]:
    """
    Take the values of keys from the paths of all files that hold anything.

    :param chosen: some of the keys; None: all.
    :raises ConfigError: if there is no such key.
    :raises InputError: if a path does not have the keys.
    """
    keys = _path_keys(source, listing)
    wanted = keys.keys if keys and chosen is None else chosen or ()
    values = _chosen_values(source.name, keys, wanted, given_as="keys")
    for path, size in zip(listing.paths, listing.sizes, strict=True):
        if size:
            yield values(path)


def local_path(source: Source, base: str) -> tuple[str, Listing]:
    """
    Find the one file or folder that a side input is, and all files in it.

    :param base: folder that relative paths start from.
    :raises ConfigError: if it is more than one.
    :raises EmptyInputError: if a pattern matched nothing.
    """
    listing = list_files(source.paths, base=base)
    only = absolute_path(source.paths[0], base)
    if len(source.paths) == 1 and Path(only).exists():
        return only, listing
    if listing.unmatched:
        raise EmptyInputError(f"side input {source.name!r}: {'; '.join(listing.unmatched)}.")
    if len(listing) == 1:
        return listing.paths[0], listing
    problem = (
        f"side_inputs: {source.name!r} stands for {len(listing)} files; allowed: one file, or one folder with them"
    )
    raise ConfigError([problem])


def _cut_files(
    source: Source, listing: Listing, size: MiniBatchSize, partition_keys: Sequence[str] | None
) -> tuple[Cut, InputSpec]:
    keys = _path_keys(source, listing) if source.partition_format or partition_keys else None
    spec = InputSpec(name=source.name, kind=source.kind, partition_keys=keys.keys if keys else ())
    if partition_keys is not None:
        partition_of = _chosen_values(source.name, keys, partition_keys)
        return cut_partitions(source.name, listing.paths, listing.sizes, map(partition_of, listing.paths)), spec
    _require_match(keys, listing)
    return cut_files(source.name, listing.paths, listing.sizes, size.count), spec


def _cut_table(
    source: TableSource, listing: Listing, size: MiniBatchSize, partition_keys: Sequence[str] | None
) -> tuple[Cut, InputSpec]:
    require_fixed_types(source.name, source.dtypes)
    keys = _path_keys(source, listing)
    key_names = keys.keys if keys else ()
    if partition_keys is not None:
        partition_of = _chosen_values(source.name, keys, partition_keys)
        cut, table = _cut_rows(source, listing, _WHOLE_FILES, keys)
        return cut.gather(lambda file: partition_of(listing.paths[file])), table.spec(key_names)
    _require_match(keys, listing)
    cut, table = _cut_rows(source, listing, size, keys)
    return cut, table.spec(key_names)


def _cut_copy(
    source: TableSource,
    listing: Listing,
    size: MiniBatchSize,
    partition_keys: Sequence[str] | None,
    target: Path,
) -> tuple[Cut, InputSpec]:
    """Cut a partitioned copy: by its index, as its files may be very many."""
    name, keys = source.name, source.partitioned_by or ()
    _require_keys(name, keys, partition_keys or (), has=f"is partitioned by {list(keys)}")
    with _unchanged(listing):
        rows, table = find_table(source, listing)
    if not rows:
        return Cut(name, ()), table.spec()
    digest = copy_digest(_rows_of(source), listing) if source.target else None
    copy = read_copy(target, digest) if digest else None
    if copy is None:
        copy = write_copy(name, _unchanged_tables(table, listing), keys, target, digest)
    if sum(copy.rows) != rows:
        raise InputError(
            f"{sum(copy.rows)} rows of {name!r} were copied where {rows} had been counted, though its files have not "
            "changed meanwhile. This is a fault of airflow_prs: please report it."
        )
    cut = TableCut(name, copy.paths)
    for number in range(len(copy.paths)):
        add_row_groups(cut, number, copy.row_groups(number), _WHOLE_FILES if partition_keys else size)
    if partition_keys:
        cut = cut.gather(lambda number: copy.partition(number, partition_keys))
    cut.note_versions(Listing.of(copy.paths).versions)
    return cut, InputSpec(name=name, kind=ParquetSource.kind, options=copy.options(), partition_keys=tuple(keys))


def _rows_of(source: TableSource) -> dict[str, Any]:
    """Return what decides which rows a copy holds, apart from the files."""
    apart = {"name", "paths", "target", "max_record_size"}
    options = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    chosen = {name: value for name, value in options.items() if name not in apart}
    return {"kind": source.kind.value, **chosen, **source.options()}


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


def _unchanged_tables(table: Table, listing: Listing) -> Iterator[Any]:
    with _unchanged(listing):
        yield from read_tables(table, listing.paths)


def find_table(source: TableSource, listing: Listing) -> tuple[int, Table]:
    """
    Count the rows that a copy is to hold, and find out how they are read.

    :raises ConfigError: if they lack a column that they are to be partitioned by.
    :raises InputError: if a file cannot be read.
    """
    keys = _path_keys(source, listing)
    _require_match(keys, listing)
    cut, table = _cut_rows(source, listing, _WHOLE_FILES, keys)
    columns = table.run_columns
    missing = [key for key in source.partitioned_by or () if key not in columns]
    if missing and table.names is not None:
        problem = f"partition_by of {source.name!r} names {missing}, but there are the columns {columns}"
        raise ConfigError([problem])
    return sum(cut.items), table


def _cut_rows(
    source: TableSource, listing: Listing, size: MiniBatchSize, keys: PathKeys | None
) -> tuple[TableCut, Table]:
    """Cut the rows of each file."""
    key_names = keys.keys if keys else ()
    cut, found = _CUTTERS[type(source)](source, listing, size, key_names)
    table = found.of(source, key_names)
    return cut, _with_key_columns(table, keys) if keys else table


_CUTTERS: dict[type[TableSource], Callable[..., tuple[TableCut, Columns]]] = {
    DelimitedSource: lambda source, listing, size, _keys: cut_delimited_files(source, listing.paths, size),
    JsonLinesSource: lambda source, listing, size, _keys: cut_json_lines_files(source, listing.paths, size),
    ParquetSource: lambda source, listing, size, keys: cut_parquet_files(source, listing.paths, size, keys),
    ArrowSource: cut_arrow_files,
}


def _path_keys(source: Source, listing: Listing) -> PathKeys | None:
    if source.partition_format is not None:
        return parse_partition_format(source.partition_format)
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


def _with_key_columns(table: Table, keys: PathKeys) -> Table:
    """
    Let worker processes add the keys' columns.

    Where the files of key folders hold such a column themselves, as some writers leave it, that one is taken.
    """
    source, columns = table.source, table.names or []
    if isinstance(keys, PartitionFormat) and (doubled := [key for key in keys.keys if key in columns]):
        problem = (
            f"partition_format of {source.name!r} is {keys.text!r}; its files have columns named {doubled}, too: "
            "give these keys other names"
        )
        raise ConfigError([problem])
    described = keys.describe()
    described["keys"] = [key for key in described["keys"] if key[0] not in columns]
    there = [*columns, *(key[0] for key in described["keys"])]
    wanted = wanted_columns(there, source.columns, source.dropped, keys.keys)
    if wanted is not None:
        described["order"] = wanted
    return dataclasses.replace(table, path_keys=described)
