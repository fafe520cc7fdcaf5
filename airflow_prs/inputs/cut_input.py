"""List the files of an input, cut them into mini-batches, and describe how worker processes read them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
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
from airflow_prs.inputs.copies.object_copy import ObjectTarget
from airflow_prs.inputs.copies.partitioned_copy import copy_digest, read_copy
from airflow_prs.inputs.copies.tables import read_tables
from airflow_prs.inputs.cutting import Cut, TableCut, cut_files, cut_partitions
from airflow_prs.inputs.files.listing import Listing, absolute_path, list_files
from airflow_prs.inputs.path_keys import PartitionFormat, PathKeys, find_key_folders, parse_partition_format
from airflow_prs.inputs.sources import (
    ArrowSource,
    DelimitedSource,
    FileSource,
    JsonLinesSource,
    MiniBatchSize,
    ParquetSource,
    Source,
    TableSource,
)
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.inputs.text.json_lines import cut_json_lines_files
from airflow_prs.object_storage.addresses import Address, is_remote, parse_address
from airflow_prs.records import DIRECT, InputSpec
from airflow_prs.store.opening import Location, location_of

_DEFAULT_FILES = MiniBatchSize(10)
_DEFAULT_TABLE = MiniBatchSize(1024 * 1024, "bytes")
_ENTIRE_FILES = MiniBatchSize(sys.maxsize, "rows")


def list_input(
    source: Source, *, base: str, published: str | None = None, targets: Mapping[str, TableSource] | None = None
) -> Listing:
    """
    Return the files of an input, without those of the copies that the run itself writes.

    :param base: folder that relative paths start from.
    :param published: the result file, which is left out.
    :param targets: the real folders of the copies of the run, see ``real_targets``; None: only that of this input.
    :raises ConfigError: if all files of the input lie in the folder of a copy.
    :raises InputError: if a file does not exist or cannot be accessed.
    """
    listing = list_files(source.paths, base=base, published=published, are_tables=isinstance(source, TableSource))
    rest = listing
    for folder, copied in (real_targets([source], base) if targets is None else targets).items():
        if is_remote(folder):
            rest = rest.without(_in_remote(parse_address(folder), copied))
        elif Path(folder).is_dir():
            rest = rest.without(partial(_is_in, f"{folder}/"))
        if len(listing) and not len(rest):
            holds = "the input itself" if copied.name == source.name else f"the input {source.name!r}"
            raise ConfigError([f"target of {copied.name!r} is {copied.target!r}, which holds {holds}"])
    return rest


def _is_in(folder: str, path: str) -> bool:
    return not is_remote(path) and os.path.realpath(path).startswith(folder)


def _in_remote(folder: Address, copied: TableSource) -> Callable[[str], bool]:
    """
    Return a function that tells whether a path is in a folder on object storage.

    :param copied: the input whose copy is there, for the error about an object that may be in it, or elsewhere.
    """
    bucket, below = folder.bucket, f"{folder}/"
    somewhere = re.escape(str(replace(folder, bucket=replace(bucket, conn_id=None))).partition("://")[2])
    matches = re.compile(rf"{bucket.kind.value}://(?:[^/]*@)?{somewhere}/").match

    def is_in(path: str) -> bool:
        if path.startswith(below):
            return True
        if matches(path):
            problem = (
                f"target of {copied.name!r} is {copied.target!r}, where {path!r} may be, through another connection; "
                "use the same connection for both, or another key for the target"
            )
            raise ConfigError([problem])
        return False

    return is_in


def real_targets(sources: Sequence[Source], base: str) -> dict[str, TableSource]:
    """
    Return the real folders of the copies, each with its input.

    :param base: folder that relative paths start from.
    :raises ConfigError: if two inputs have the same target.
    """
    folders: dict[str, TableSource] = {}
    taken: dict[Location, TableSource] = {}
    for source in sources:
        if isinstance(source, TableSource) and source.target is not None:
            folder = absolute_path(source.target, base)
            folders[folder if is_remote(folder) else os.path.realpath(folder)] = source
            other = taken.setdefault(_place(folder), source)
            if other.name != source.name:
                problem = (
                    f"target of {source.name!r} is {source.target!r}, as is that of {other.name!r}; "
                    "each needs a folder of its own"
                )
                raise ConfigError([problem])
    return folders


def _place(folder: str) -> Location:
    """Return what two folders have in common that are the same; two connections may lead to the same bucket."""
    location = location_of(folder)
    if isinstance(location, Path):
        return Path(os.path.realpath(location))
    return replace(location, bucket=replace(location.bucket, conn_id=None))


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
    Cut one input into mini-batches. Its partitioned copy, if it has one, is written first.

    :param listing: files of the input.
    :param size: size of a mini-batch; None: 10 files, or 1 MB of a table.
    :param partition_keys: keys whose values all items of a mini-batch share; None: the input is cut by size.
    :param base: folder that relative paths start from.
    :param copies: folder of the copies without a target.
    :return: the mini-batches, and how worker processes read the input.
    :raises ConfigError: if the source does not have the keys.
    :raises InputError: if a file cannot be read or cut.
    :raises InputChangedError: if a file changes while it is read.
    """
    if not isinstance(source, TableSource):
        cut, spec = _cut_files(source, listing, size or _DEFAULT_FILES, partition_keys)
    elif source.partitioned_by is not None:
        target: Location = copies / source.name
        if source.target:
            target = location_of(absolute_path(source.target, base))
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
    Yield the values of keys from the path of each file that is not empty.

    :param chosen: some of the keys; None: all.
    :raises ConfigError: if a key does not exist.
    :raises InputError: if a path does not have the keys.
    """
    keys = _path_keys(source, listing)
    wanted = keys.keys if keys and chosen is None else chosen or ()
    values = _chosen_values(source.name, keys, wanted, parameter="keys")
    for path, size in zip(listing.paths, listing.sizes, strict=True):
        if size:
            yield values(path)


def local_path(source: Source, base: str) -> tuple[str, Listing]:
    """
    Return the path or the address of a side input, which is one file or one folder, and all files in it.

    :param base: folder that relative paths start from.
    :raises ConfigError: if the side input is more than one file.
    :raises EmptyInputError: if a pattern matched nothing.
    """
    listing = list_files(source.paths, base=base)
    only = absolute_path(source.paths[0], base)
    if len(source.paths) == 1 and (_is_in_bucket(only, listing) if is_remote(only) else Path(only).exists()):
        return only, listing
    if listing.unmatched:
        raise EmptyInputError(f"side input {source.name!r}: {'; '.join(listing.unmatched)}.")
    if len(listing) == 1:
        return listing.paths[0], listing
    problem = (
        f"side_inputs: {source.name!r} matches {len(listing)} files; allowed: one file, or one folder with the files"
    )
    raise ConfigError([problem])


def _is_in_bucket(address: str, listing: Listing) -> bool:
    """Return whether an address is that of all listed objects, or of their folder, and no pattern."""
    return len(listing) > 0 and all(path == address or path.startswith(f"{address}/") for path in listing.paths)


def _cut_files(
    source: Source, listing: Listing, size: MiniBatchSize, partition_keys: Sequence[str] | None
) -> tuple[Cut, InputSpec]:
    keys = _path_keys(source, listing) if source.partition_format or partition_keys else None
    options = {"mode": DIRECT} if isinstance(source, FileSource) and source.is_direct else {}
    spec = InputSpec(name=source.name, kind=source.kind, options=options, partition_keys=keys.keys if keys else ())
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
        cut, table = _cut_rows(source, listing, _ENTIRE_FILES, keys)
        return cut.gather(lambda file: partition_of(listing.paths[file])), table.spec(key_names)
    _require_match(keys, listing)
    cut, table = _cut_rows(source, listing, size, keys)
    return cut, table.spec(key_names)


def _cut_copy(
    source: TableSource,
    listing: Listing,
    size: MiniBatchSize,
    partition_keys: Sequence[str] | None,
    target: Location,
) -> tuple[Cut, InputSpec]:
    """Write a partitioned copy and cut it, from its index: reading the footers of a million files takes too long."""
    name, keys = source.name, source.partitioned_by or ()
    _require_keys(name, keys, partition_keys or (), has=f"is partitioned by {list(keys)}")
    with _unchanged(listing):
        rows, table = find_table(source, listing)
    if not rows:
        return Cut(name, ()), table.spec()
    make = partial(write_copy, name, _unchanged_tables(table, listing), keys)
    digest = copy_digest(_rows_of(source), listing)
    if isinstance(target, Address):
        objects = ObjectTarget(name, target)
        copy = objects.read(digest) or objects.write(lambda folder: make(folder, None), digest)
        files = objects.listing(copy)
    else:
        copy = (read_copy(target, digest) or make(target, digest)) if source.target else make(target, None)
        files = Listing.of(copy.paths)
    if sum(copy.rows) != rows:
        raise InputError(
            f"plan counted {rows} rows of {name!r} but copied {sum(copy.rows)}, although the files have not changed. "
            "This is a bug in airflow_prs: please report it."
        )
    cut = TableCut(name, copy.paths)
    for number in range(len(copy.paths)):
        add_row_groups(cut, number, copy.row_groups(number), _ENTIRE_FILES if partition_keys else size)
    if partition_keys:
        cut = cut.gather(lambda number: copy.partition(number, partition_keys))
    cut.note_versions(files.versions)
    return cut, InputSpec(name=name, kind=ParquetSource.kind, options=copy.options(), partition_keys=tuple(keys))


def _rows_of(source: TableSource) -> dict[str, Any]:
    """Return everything but the files that determines the rows of a copy."""
    apart = {"name", "paths", "target", "max_record_size"}
    options = {field.name: getattr(source, field.name) for field in fields(source)}
    chosen = {name: value for name, value in options.items() if name not in apart}
    return {"kind": source.kind.value, **chosen, **source.options()}


@contextmanager
def _unchanged(listing: Listing) -> Iterator[None]:
    """
    Check after a block that files have not changed in it.

    :raises InputChangedError: if one has changed, also in place of an error of the block, which that may have caused.
    """
    try:
        yield
    except Exception:
        listing.require_unchanged()
        raise
    listing.require_unchanged()


def _unchanged_tables(table: Table, listing: Listing) -> Iterator[Any]:
    with _unchanged(listing):
        yield from read_tables(table, listing)


def find_table(source: TableSource, listing: Listing) -> tuple[int, Table]:
    """
    Return the number of rows to copy, and how they are read.

    :raises ConfigError: if the rows lack a column of ``partition_by``.
    :raises InputError: if a file cannot be read.
    """
    keys = _path_keys(source, listing)
    _require_match(keys, listing)
    cut, table = _cut_rows(source, listing, _ENTIRE_FILES, keys)
    columns = table.run_columns
    missing = [key for key in source.partitioned_by or () if key not in columns]
    if missing and table.names is not None:
        problem = f"partition_by of {source.name!r} names {missing}, but it has the columns {columns}"
        raise ConfigError([problem])
    return sum(cut.items), table


def _cut_rows(
    source: TableSource, listing: Listing, size: MiniBatchSize, keys: PathKeys | None
) -> tuple[TableCut, Table]:
    """Return the rows of the files, cut by size, and how the files are read."""
    key_names = keys.keys if keys else ()
    cut, found = _CUTTERS[type(source)](source, listing, size, key_names)
    table = found.of(source, key_names)
    return cut, _with_key_columns(table, keys) if keys else table


_CUTTERS: dict[type[TableSource], Callable[..., tuple[TableCut, Columns]]] = {
    DelimitedSource: lambda source, listing, size, _keys: cut_delimited_files(source, listing, size),
    JsonLinesSource: lambda source, listing, size, _keys: cut_json_lines_files(source, listing, size),
    ParquetSource: cut_parquet_files,
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
    name: str, keys: PathKeys | None, chosen: Sequence[str], *, parameter: str = "partition_keys"
) -> Callable[[str], dict[str, str | datetime | None]]:
    """
    Return a function that reads the values of the chosen keys from a path.

    :param name: name of the input.
    :param parameter: the parameter that lists the chosen keys, for errors.
    :raises ConfigError: if the paths do not have these keys.
    """
    if keys is None:
        has = "has no partition_format and no folders named key=value"
        raise ConfigError([f"{parameter} is {list(chosen)}; {name!r} {has}, so it cannot be cut by {list(chosen)}"])
    _require_keys(name, keys.keys, chosen, has=f"has the keys {list(keys.keys)}", parameter=parameter)

    def values(path: str) -> dict[str, str | datetime | None]:
        found = keys.read(path)
        return {key: found[key] for key in chosen}

    return values


def _require_keys(
    name: str, keys: Sequence[str], chosen: Sequence[str], *, has: str, parameter: str = "partition_keys"
) -> None:
    if missing := [key for key in chosen if key not in keys]:
        raise ConfigError([f"{parameter} is {list(chosen)}; {name!r} {has}, so it cannot be cut by {missing}"])


def _with_key_columns(table: Table, keys: PathKeys) -> Table:
    """
    Return a table to which worker processes add a column for each key in the paths.

    Some writers store the keys of key folders in the files, too; then the column of the files is used.
    """
    source, columns = table.source, table.names or []
    if isinstance(keys, PartitionFormat) and (doubled := [key for key in keys.keys if key in columns]):
        problem = (
            f"partition_format of {source.name!r} is {keys.text!r}, but its files also have columns named {doubled}: "
            "rename these keys"
        )
        raise ConfigError([problem])
    described = keys.describe()
    described["keys"] = [key for key in described["keys"] if key[0] not in columns]
    every = [*columns, *(key[0] for key in described["keys"])]
    wanted = wanted_columns(every, source.columns, source.dropped, keys.keys)
    if wanted is not None:
        described["order"] = wanted
    return replace(table, path_keys=described)
