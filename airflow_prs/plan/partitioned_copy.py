"""A copy of a table with a folder ``key=value`` for each partition: written whole or not at all, and read again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.plan.columns import type_with_nulls
from airflow_prs.plan.fingerprint import digest_of, versions_of
from airflow_prs.plan.key_columns import KeyNumbers, kind_of, pandas_type_of, plain_value, text_of
from airflow_prs.plan.listing import Listing
from airflow_prs.plan.partitions import copy_folders, key_folder
from airflow_prs.plan.row_groups import RowGroup
from airflow_prs.plan.sorted_runs import MOST_RUNS, RUN_BYTES, SortedRuns
from airflow_prs.run_folder import files

INDEX = ".partitions.parquet"
"""Lists the files of a copy; hidden, so that nobody takes it for rows. It says that all of the folder is a copy."""

_DESCRIBED = b"airflow_prs"
_FILE = "rows.parquet"
_ROWS_PER_GROUP = 128 * 1024
_LONGEST_NAME = 255
_BYTES_OF_ONE = 8 * 1024
"""What a partition takes on a disk at least: a folder and a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedCopy:
    """
    What a copy holds, in columns, so that a million partitions can be held.

    :param schema: the columns of its files: all but the keys.
    :param nullable: types of columns of which a mini-batch alone could have another type.
    :param keys: key to the type of its values, in the order of the folders.
    :param columns: values of each key, one a partition, in the order in which the combinations first appeared.
    :param paths: the file of each partition.
    :param ends: one past the last of each file's row groups.
    :param rows: of each row group.
    :param sizes: bytes of each row group, compressed.
    """

    schema: Any
    nullable: Mapping[str, str]
    keys: Mapping[str, Any]
    columns: Sequence[Sequence[Any]]
    paths: list[str] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def partition(self, number: int, keys: Iterable[str]) -> dict[str, Any]:
        """Give the values that some keys have in a partition."""
        known = list(self.keys)
        return {key: self.columns[known.index(key)][number] for key in keys}

    def options(self) -> dict[str, Any]:
        """Say how worker processes read its files."""
        described = copy_folders(list(self.keys)).describe()
        described["types"] = {
            key: [kind := kind_of(key, arrow_type), pandas_type_of(kind, arrow_type, has_missing=None in values)]
            for (key, arrow_type), values in zip(self.keys.items(), self.columns, strict=True)
        }
        names = list(self.schema.names)
        dtypes = {name: kind for name, kind in self.nullable.items() if name in names}
        return {"filter": None, "columns": names, "chosen": None, "dtypes": dtypes, "path_keys": described}

    def row_groups(self, number: int) -> list[RowGroup]:
        """Give the row groups of a partition's file."""
        begin = self.ends[number - 1] if number else 0
        return [
            RowGroup(position - begin, self.rows[position], self.sizes[position])
            for position in range(begin, self.ends[number])
        ]


def copy_digest(described: Mapping[str, Any], listing: Listing) -> str:
    """
    Name what a copy is made of: equal for copies of the same rows.

    :param described: how the source is read, and by which keys the copy is partitioned.
    :param listing: its files.
    """
    content = [dict(described, name=None), digest_of(listing), versions_of(sys.executable)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_copy(
    name: str, tables: Iterable[Any], keys: Sequence[str], target: Path, digest: str | None
) -> PartitionedCopy:
    """
    Write a copy, in bounded memory; it takes the place of an older copy, and of nothing else.

    :param name: of the input.
    :param tables: the rows in their order.
    :param target: folder of the copy.
    :param digest: equal for copies of the same rows; None: it is for one run alone, which would begin anew after a
        power cut.
    :raises ConfigError: if other files are in the target.
    :raises InputError: if the rows cannot be partitioned so.
    """
    require_own(name, target)
    with _workplace(target) as workplace:
        runs_folder, whole = workplace / "runs", workplace / "copy"
        runs_folder.mkdir()
        whole.mkdir()
        numbers = KeyNumbers(keys)
        runs = SortedRuns(runs_folder, name, run_bytes=RUN_BYTES, most_runs=MOST_RUNS)
        nullable: dict[str, str] = {}
        for table in tables:
            if len(table):
                runs.add(table, numbers.feed(table))
                nullable |= _types_with_nulls(table)
        copy = _describe(name, runs.schema, nullable, numbers, keys)
        if not len(numbers):
            return copy
        _require_room(name, whole, len(numbers))
        _write_partitions(name, copy, runs, whole)
        _write_index(whole / INDEX, copy, digest)
        if digest is not None:
            os.sync()  # one call for a million files
        _put_in_place(name, whole, target)
    copy.paths[:] = [str(target / path) for path in copy.paths]
    return copy


def require_own(name: str, target: Path) -> None:
    """
    Check that nothing would be lost if a folder were replaced.

    :param name: of the input.
    :raises ConfigError: if there is a file that is not of a copy.
    """
    if not target.is_dir():
        if target.exists():
            raise ConfigError([f"target of {name!r} is {str(target)!r}, a file; allowed: a folder, or none yet"])
        return
    known = _listed_files(target / INDEX)
    for folder, _, names in os.walk(target):
        for found in names:
            path = os.path.relpath(os.path.join(folder, found), target)  # noqa: PTH118 - a million of them
            if path not in known:
                problem = (
                    f"target of {name!r} is {str(target)!r}, where {path!r} is not of a partitioned copy; a copy takes "
                    "the place of the whole folder: give a folder of its own"
                )
                raise ConfigError([problem])


def _describe(
    name: str, schema: Any, nullable: Mapping[str, str], numbers: KeyNumbers, keys: Sequence[str]
) -> PartitionedCopy:
    import pyarrow as pa

    if schema is None:
        return PartitionedCopy(schema=pa.schema([]), nullable={}, keys=dict.fromkeys(keys), columns=[[] for _ in keys])
    others = pa.schema([column for column in schema if column.name not in keys], schema.metadata)
    if not len(others):
        problem = f"partition_keys of partition_by names all columns of {name!r}; at least one other has to be there"
        raise ConfigError([problem])
    types = {key: schema.field(key).type for key in keys}
    for key, kind in types.items():
        kind_of(key, kind)
    values = [_typed(column, kind) for column, kind in zip(numbers.columns(), types.values(), strict=True)]
    return PartitionedCopy(schema=others, nullable=nullable, keys=types, columns=values)


def _typed(values: list[Any], kind: Any) -> list[Any]:
    """Let values that came before a type was known have it, too."""
    import pyarrow as pa

    if not pa.types.is_floating(kind):
        return values
    return [float(value) if isinstance(value, int) else value for value in values]


def _types_with_nulls(table: Any) -> dict[str, str]:
    found = {}
    for column, values in zip(table.schema, table.columns, strict=True):
        kind = type_with_nulls(column.type)
        if kind is not None and values.null_count:
            found[column.name] = kind
    return found


def _require_room(name: str, folder: Path, partitions: int) -> None:
    """Fail before hours of work, not after them."""
    room = os.statvfs(folder)
    # Some file systems have no fixed number of files, and say 0.
    if room.f_files and room.f_favail < 2 * partitions:
        has, needed = f"{room.f_favail:,} more files", f"{2 * partitions:,} files and folders"
    elif room.f_bavail * room.f_frsize < _BYTES_OF_ONE * partitions:
        has, needed = f"{room.f_bavail * room.f_frsize:,} bytes", f"{_BYTES_OF_ONE * partitions:,} bytes"
    else:
        return
    raise InputError(
        f"{name!r} has {partitions:,} partitions, which need {needed}, but the file system of {str(folder)!r} has room "
        f"for {has}: partition by fewer values, or give another target."
    )


def _write_partitions(name: str, copy: PartitionedCopy, runs: SortedRuns, whole: Path) -> None:
    for (_, batches), folder in zip(runs.partitions(copy.schema), _folders(name, copy), strict=True):
        os.makedirs(f"{whole}/{folder}")  # noqa: PTH103 - a million of them
        _write_rows(f"{whole}/{folder}/{_FILE}", copy, batches)
        copy.paths.append(f"{folder}/{_FILE}")


def _folders(name: str, copy: PartitionedCopy) -> Iterator[str]:
    for values in zip(*copy.columns, strict=True):
        steps = [key_folder(key, text_of(value)) for key, value in zip(copy.keys, values, strict=True)]
        for step in steps:
            if len(os.fsencode(step)) > _LONGEST_NAME:
                raise InputError(
                    f"{name!r} cannot be partitioned by a value as long as this: it needs a folder named {step!r}, but "
                    f"names have at most {_LONGEST_NAME} bytes. Add a column with a number or a hash of the value."
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
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group, copy.schema), row_group_size=_ROWS_PER_GROUP)
    (footer,) = collected
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        copy.rows.append(group.num_rows)
        copy.sizes.append(sum(group.column(column).total_compressed_size for column in range(group.num_columns)))
    copy.ends.append(len(copy.rows))


def _groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Put batches together that make a row group."""
    held: list[Any] = []
    rows = 0
    for batch in batches:
        if held and rows + len(batch) > _ROWS_PER_GROUP:
            yield held
            held, rows = [], 0
        held.append(batch)
        rows += len(batch)
    yield held


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside the target, from which a rename puts the copy in its place."""
    files.make_folder(target.parent)
    workplace = files.temporary_name(target)
    workplace.mkdir()
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _put_in_place(name: str, whole: Path, target: Path) -> None:
    """
    Let a copy appear under its name, whole.

    An older one is moved aside first, and what another plan puts there meanwhile, too; the last one stays.
    """
    while True:
        try:
            whole.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            files.sync_folder(target.parent)
            return
        require_own(name, target)
        with suppress(FileNotFoundError):
            target.rename(files.temporary_name(whole))


# The index


def _write_index(path: Path, copy: PartitionedCopy, digest: str | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    begins = [0, *copy.ends[:-1]]
    columns = [pa.array(values, kind) for values, kind in zip(copy.columns, copy.keys.values(), strict=True)]
    index = pa.table(
        {
            "keys": pa.StructArray.from_arrays(columns, names=list(copy.keys)),
            "path": copy.paths,
            "bytes": [os.path.getsize(path.parent / file) for file in copy.paths],  # noqa: PTH202 - a million of them
            "rows": [copy.rows[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
            "sizes": [copy.sizes[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
        }
    )
    described = {
        "digest": digest,
        "nullable": dict(copy.nullable),
        "schema": b64encode(copy.schema.serialize().to_pybytes()).decode(),
    }
    pq.write_table(index.replace_schema_metadata({_DESCRIBED: json.dumps(described).encode()}), path)


def read_copy(target: Path, digest: str) -> PartitionedCopy | None:
    """
    Find a copy of the same rows, whose files are all there.

    :param target: folder of the copy.
    :param digest: as given to ``write_copy``.
    """
    import pyarrow as pa

    index = _read_index(target / INDEX)
    if index is None:
        return None
    described = json.loads(index.schema.metadata[_DESCRIBED])
    paths = [str(target / path) for path in index["path"].to_pylist()]
    if described["digest"] != digest or list(map(_size, paths)) != index["bytes"].to_pylist():
        return None
    columns = index["keys"].combine_chunks()
    copy = PartitionedCopy(
        schema=pa.ipc.read_schema(pa.py_buffer(b64decode(described["schema"]))),
        nullable=described["nullable"],
        keys={key.name: key.type for key in columns.type},
        columns=[
            [plain_value(key.name, value) for value in columns.field(position)]
            for position, key in enumerate(columns.type)
        ],
        paths=paths,
    )
    for rows, sizes in zip(index["rows"].to_pylist(), index["sizes"].to_pylist(), strict=True):
        copy.rows.extend(rows)
        copy.sizes.extend(sizes)
        copy.ends.append(len(copy.rows))
    return copy


def _listed_files(path: Path) -> set[str]:
    index = _read_index(path)
    return set() if index is None else {INDEX, *index["path"].to_pylist()}


def _read_index(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        index = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException):
        return None
    return index if _DESCRIBED in (index.schema.metadata or {}) else None


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)  # noqa: PTH202 - a million of them
    except OSError:
        return None
