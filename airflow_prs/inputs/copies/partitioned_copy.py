"""What a partitioned copy holds, and its index, from which it is known again."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.inputs.columnar.row_groups import RowGroup
from airflow_prs.inputs.columns import encode_schema
from airflow_prs.inputs.copies.key_numbers import kind_of, pandas_type_of, plain_value
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.path_keys import copy_folders
from airflow_prs.inputs.versions import own_versions

INDEX = ".partitions.parquet"
"""Lists the files of a copy; hidden, so that nobody takes it for rows. It says that all of the folder is a copy."""

_DESCRIBED = b"airflow_prs"


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
            key: [kind := kind_of(key, arrow_type), pandas_type_of(kind, arrow_type, values)]
            for (key, arrow_type), values in zip(self.keys.items(), self.columns, strict=True)
        }
        return {
            "filter": None,
            "columns": list(self.schema.names),
            "chosen": None,
            "dtypes": dict(self.nullable),
            "schema": encode_schema(self.schema),
            "path_keys": described,
        }

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
    content = [dict(described, name=None), listing.digest(), own_versions()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_index(folder: Path, copy: PartitionedCopy, digest: str | None) -> None:
    """
    Say that a folder holds a copy, whole.

    :param copy: with paths that begin in the folder.
    :param digest: equal for copies of the same rows; None: it is of no use to others.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    begins = [0, *copy.ends[:-1]]
    columns = [pa.array(values, kind) for values, kind in zip(copy.columns, copy.keys.values(), strict=True)]
    index = pa.table(
        {
            "keys": pa.StructArray.from_arrays(columns, names=list(copy.keys)),
            "path": copy.paths,
            "bytes": [os.path.getsize(folder / file) for file in copy.paths],  # noqa: PTH202 - a million of them
            "rows": [copy.rows[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
            "sizes": [copy.sizes[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
        }
    )
    described = {
        "digest": digest,
        "nullable": dict(copy.nullable),
        "schema": b64encode(copy.schema.serialize().to_pybytes()).decode(),
    }
    pq.write_table(index.replace_schema_metadata({_DESCRIBED: json.dumps(described).encode()}), folder / INDEX)


def read_copy(target: Path, digest: str) -> PartitionedCopy | None:
    """
    Find a copy of the same rows, whose files are all there.

    :param target: folder of the copy.
    :param digest: as given to ``write_index``.
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


def listed_files(target: Path) -> set[str]:
    """Name the files that are of the copy in a folder, the index among them."""
    index = _read_index(target / INDEX)
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
