"""Copy a table into a folder ``key=value`` for each partition, atomically."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.inputs.columnar.column_facts import ColumnFacts, is_decisive, is_wide
from airflow_prs.inputs.columnar.frame_types import note_extensions, types_with_nulls
from airflow_prs.inputs.columnar.gathering import gathered
from airflow_prs.inputs.copies.key_numbers import KeyNumbers, kind_of, text_of
from airflow_prs.inputs.copies.partitioned_copy import INDEX, PartitionedCopy, listed_files, read_copy, write_index
from airflow_prs.inputs.copies.sorted_runs import MOST_RUNS, RUN_BYTES, SortedRuns
from airflow_prs.inputs.path_keys import key_folder
from airflow_prs.object_storage.addresses import Address
from airflow_prs.store import files

_FILE = "rows.parquet"
_ROWS_PER_GROUP = 128 * 1024
_LONGEST_NAME = 255
_BYTES_OF_ONE = 8 * 1024
"""The least that a partition takes on a disk: a folder and a file."""


def write_copy(
    name: str, tables: Iterable[Any], keys: Sequence[str], target: Path, digest: str | None
) -> PartitionedCopy:
    """
    Write a partitioned copy, in bounded memory. It replaces an older copy, but no other files.

    :param name: name of the input.
    :param tables: the rows in their order.
    :param keys: the key columns.
    :param target: folder of the copy.
    :param digest: equal for copies of the same rows; None: the copy is for one run only. Then it is not synced to disk,
        since that run would start over after a power failure.
    :return: the copy; without files if there are no rows.
    :raises ConfigError: if the target holds other files, or there is no column besides the keys.
    :raises InputError: if the rows cannot be partitioned by these columns, or there is not enough space.
    """
    require_own(name, target)
    with _workplace(target) as workplace:
        runs_folder, new = workplace / "runs", workplace / "copy"
        runs_folder.mkdir()
        new.mkdir()
        numbers = KeyNumbers(keys)
        runs = SortedRuns(runs_folder, name, run_bytes=RUN_BYTES, most_runs=MOST_RUNS)
        facts: dict[str, ColumnFacts] = {}
        for table in tables:
            if len(table):
                if runs.schema is None or not table.schema.equals(runs.schema):
                    _require_storable(name, table.schema)
                runs.add(table, numbers.assign(table))
                _note_facts(facts, table)
        copy = _describe(name, runs.schema, facts, numbers, keys)
        if not len(numbers):
            return copy
        _require_room(name, new, len(numbers))
        _write_partitions(name, copy, runs, new)
        sizes = [os.path.getsize(new / file) for file in copy.paths]  # noqa: PTH202 - a million of them
        write_index(new / INDEX, copy, sizes, digest=digest)
        if digest is not None:
            os.sync()  # one call for a million files
            if (theirs := read_copy(target, digest)) is not None:
                return theirs  # another plan was quicker, and its run may be reading them
        _put_in_place(name, new, target)
    return copy.below(str(target))


def require_own(name: str, target: Path) -> None:
    """
    Check that a folder holds nothing but a partitioned copy, so that it can be replaced.

    :param name: name of the input.
    :raises ConfigError: if the folder holds another file, or is a link or a file itself.
    """
    if target.is_symlink():
        problem = f"target of {name!r} is {str(target)!r}, a link, which a copy cannot replace; use the folder itself"
        raise ConfigError([problem])
    if not target.is_dir():
        if target.exists():
            raise not_a_folder(name, target, "a file")
        return
    known = listed_files(target)
    for folder, _, names in os.walk(target):
        for found in names:
            path = os.path.relpath(os.path.join(folder, found), target)  # noqa: PTH118 - a million of them
            if path not in known:
                raise not_own(name, target, path)


def not_own(name: str, target: Path | Address, path: str) -> ConfigError:
    """
    Return the error for a target with something else in it.

    :param name: name of the input.
    :param path: what is in it.
    """
    problem = (
        f"target of {name!r} is {str(target)!r}, where {path!r} is not part of a partitioned copy; a copy replaces the "
        "entire folder: use a folder of its own"
    )
    return ConfigError([problem])


def not_a_folder(name: str, target: Path | Address, what: str) -> ConfigError:
    """
    Return the error for a target that is a file.

    :param name: name of the input.
    :param what: what it is.
    """
    return ConfigError(
        [f"target of {name!r} is {str(target)!r}, {what}; allowed: a folder, or a path that does not exist yet"]
    )


def _describe(
    name: str, schema: Any, facts: Mapping[str, ColumnFacts], numbers: KeyNumbers, keys: Sequence[str]
) -> PartitionedCopy:
    """
    Return a copy with its columns and key values, but without files.

    :param schema: schema of the rows; None: there are no rows.
    """
    import pyarrow as pa

    if schema is None:
        return PartitionedCopy(schema=pa.schema([]), nullable={}, keys=dict.fromkeys(keys), columns=[[] for _ in keys])
    others = pa.schema([column for column in schema if column.name not in keys], schema.metadata)
    if not len(others):
        problem = f"partition_keys of partition_by names all columns of {name!r}; at least one column must not be a key"
        raise ConfigError([problem])
    types = {key: schema.field(key).type for key in keys}
    for key, kind in types.items():
        kind_of(key, kind)
    values = [_in_column_type(column, kind) for column, kind in zip(numbers.columns(), types.values(), strict=True)]
    told = {column.name: types_with_nulls(column.type, facts.get(column.name, ColumnFacts())) for column in others}
    others = note_extensions(others, {key: extension for key, (_, extension) in told.items() if extension})
    nullable = {key: dtype for key, (dtype, _) in told.items() if dtype}
    return PartitionedCopy(schema=others, nullable=nullable, keys=types, columns=values)


def _in_column_type(values: list[Any], kind: Any) -> list[Any]:
    """Return key values in the type of their column: first rows may have been integers where later ones are floats."""
    import pyarrow as pa

    if not pa.types.is_floating(kind):
        return values
    return [float(value) if isinstance(value, int) else value for value in values]


def _note_facts(facts: dict[str, ColumnFacts], table: Any) -> None:
    """Update the facts that determine the pandas types of columns."""
    for column, values in zip(table.schema, table.columns, strict=True):
        if is_decisive(column.type):
            known = facts.setdefault(column.name, ColumnFacts())
            known.has_nulls = known.has_nulls or values.null_count > 0
            if is_wide(column.type):
                known.note_values(values)


def _require_storable(name: str, schema: Any) -> None:
    from airflow_prs.worker.writing.widening import find_unstorable

    if (found := find_unstorable(schema)) is not None:
        column, _ = found
        raise InputError(
            f"the column {column.name!r} of {name!r} is of type {column.type}, which a partitioned copy cannot "
            "hold; leave it out with columns."
        )


def _require_room(name: str, folder: Path, partitions: int) -> None:
    """Raise InputError if the disk is too small, before hours of work instead of after them."""
    room = os.statvfs(folder)
    # Some file systems have no fixed number of files, and report 0.
    if room.f_files and room.f_favail < 2 * partitions:
        has, needed = f"{room.f_favail:,} more files", f"{2 * partitions:,} files and folders"
    elif room.f_bavail * room.f_frsize < _BYTES_OF_ONE * partitions:
        has, needed = f"{room.f_bavail * room.f_frsize:,} bytes", f"{_BYTES_OF_ONE * partitions:,} bytes"
    else:
        return
    raise InputError(
        f"{name!r} has {partitions:,} partitions, which need {needed}, but the file system of {str(folder)!r} has room "
        f"for {has}: partition by fewer values, or choose another target (with one on object storage, another TMPDIR)."
    )


def _write_partitions(name: str, copy: PartitionedCopy, runs: SortedRuns, new: Path) -> None:
    for (_, batches), folder in zip(runs.partitions(copy.schema), _folders(name, copy), strict=True):
        os.makedirs(f"{new}/{folder}")  # noqa: PTH103 - a million of them
        _write_rows(f"{new}/{folder}/{_FILE}", copy, batches)
        copy.paths.append(f"{folder}/{_FILE}")


def _folders(name: str, copy: PartitionedCopy) -> Iterator[str]:
    for values in zip(*copy.columns, strict=True):
        steps = [key_folder(key, text_of(value)) for key, value in zip(copy.keys, values, strict=True)]
        for step in steps:
            if len(os.fsencode(step)) > _LONGEST_NAME:
                raise InputError(
                    f"{name!r} has a key value that is too long: it needs a folder named {step!r}, but names have at "
                    f"most {_LONGEST_NAME} bytes. Partition by a column with a number or a hash of the value instead."
                )
        yield "/".join(steps)


def _write_rows(path: str, copy: PartitionedCopy, batches: Iterator[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    collected: list[Any] = []
    with (
        pa.OSFile(path, "wb") as file,
        pq.ParquetWriter(file, copy.schema, compression="zstd", metadata_collector=collected) as writer,
    ):
        for group in gathered(batches, _ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_batches(group, copy.schema), row_group_size=_ROWS_PER_GROUP)
    (footer,) = collected
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        copy.rows.append(group.num_rows)
        copy.sizes.append(sum(group.column(column).total_compressed_size for column in range(group.num_columns)))
    copy.ends.append(len(copy.rows))


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside the target, from which the complete copy is renamed."""
    files.make_folder(target.parent)
    workplace = files.temporary_name(target)
    workplace.mkdir()
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _put_in_place(name: str, new: Path, target: Path) -> None:
    """
    Rename a complete copy to its target.

    An older copy is moved away first, also one that another plan puts there at the same time. The last copy remains.
    """
    while True:
        try:
            new.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            files.sync_folder(target.parent)
            return
        require_own(name, target)
        with suppress(FileNotFoundError):
            target.rename(files.temporary_name(new))
