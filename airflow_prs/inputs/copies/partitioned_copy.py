"""The contents of a partitioned copy, and its index, with which a later plan finds and reuses the copy."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from airflow_prs.inputs.columnar.row_groups import RowGroup
from airflow_prs.inputs.columns import encode_schema
from airflow_prs.inputs.copies.key_numbers import kind_of, pandas_type_of, plain_value
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.path_keys import copy_folders
from airflow_prs.inputs.versions import own_versions

INDEX = ".partitions.parquet"
"""Name of the index, which lists the files of a copy. Its presence shows that the copy is complete."""

_DESCRIBED = b"airflow_prs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedCopy:
    """
    The contents of a partitioned copy. They are held in columns, since there may be millions of partitions.

    :param schema: schema of the files: all columns but the keys.
    :param nullable: pandas types of the columns that could have another type in a single mini-batch.
    :param keys: type of the values of each key, in the order of the folders.
    :param columns: for each key its value in each partition, in the order of the partitions.
    :param paths: file of each partition.
    :param ends: for each file one past the position of its last row group in ``rows``.
    :param rows: rows of each row group.
    :param sizes: compressed bytes of each row group.
    """

    schema: Any
    nullable: Mapping[str, str]
    keys: Mapping[str, Any]
    columns: Sequence[Sequence[Any]]
    paths: list[str] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def below(self, folder: str) -> PartitionedCopy:
        """Return a copy with relative paths as one whose paths begin with a folder, or an address."""
        return replace(self, paths=[f"{folder}/{path}" for path in self.paths])

    def partition(self, number: int, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of some keys in a partition."""
        known = list(self.keys)
        return {key: self.columns[known.index(key)][number] for key in keys}

    def options(self) -> dict[str, Any]:
        """Return the options with which a worker process reads the files."""
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
        """Return the row groups of a partition's file."""
        begin = self.ends[number - 1] if number else 0
        return [
            RowGroup(position - begin, self.rows[position], self.sizes[position])
            for position in range(begin, self.ends[number])
        ]


def copy_digest(described: Mapping[str, Any], listing: Listing) -> str:
    """
    Return a digest that is equal for copies of the same rows.

    :param described: how the source is read, and by which keys the copy is partitioned.
    :param listing: files of the source.
    """
    content = [dict(described, name=None), listing.digest(), own_versions()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CopyIndex:
    """
    The index of a copy.

    :param table: as ``write_index`` writes it.
    :ivar digest: see ``copy_digest``; None: no other run can reuse the copy.
    :ivar sizes: bytes of each file, by its path relative to the folder of the copy.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._described = json.loads(table.schema.metadata[_DESCRIBED])
        self.digest: str | None = self._described["digest"]
        self.sizes: dict[str, int] = dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))

    def copy(self) -> PartitionedCopy:
        """Return the copy, with paths relative to its folder."""
        import pyarrow as pa

        columns = self._table["keys"].combine_chunks()
        copy = PartitionedCopy(
            schema=pa.ipc.read_schema(pa.py_buffer(b64decode(self._described["schema"]))),
            nullable=self._described["nullable"],
            keys={key.name: key.type for key in columns.type},
            columns=[
                [plain_value(key.name, value) for value in columns.field(position)]
                for position, key in enumerate(columns.type)
            ],
            paths=list(self.sizes),
        )
        for rows, sizes in zip(self._table["rows"].to_pylist(), self._table["sizes"].to_pylist(), strict=True):
            copy.rows.extend(rows)
            copy.sizes.extend(sizes)
            copy.ends.append(len(copy.rows))
        return copy


def write_index(
    sink: Path | BinaryIO, copy: PartitionedCopy, file_bytes: Sequence[int], **described: str | None
) -> None:
    """
    Write the index of a copy.

    :param sink: where to.
    :param copy: the copy, with paths relative to its folder.
    :param file_bytes: bytes of each file.
    :param described: the ``digest``, see ``copy_digest``, or None if no other run can reuse the copy; and what else
        tells indexes apart.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    begins = [0, *copy.ends[:-1]]
    columns = [pa.array(values, kind) for values, kind in zip(copy.columns, copy.keys.values(), strict=True)]
    index = pa.table(
        {
            "keys": pa.StructArray.from_arrays(columns, names=list(copy.keys)),
            "path": copy.paths,
            "bytes": file_bytes,
            "rows": [copy.rows[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
            "sizes": [copy.sizes[begin:end].tolist() for begin, end in zip(begins, copy.ends, strict=True)],
        }
    )
    schema = b64encode(copy.schema.serialize().to_pybytes()).decode()
    noted = {**described, "nullable": dict(copy.nullable), "schema": schema}
    pq.write_table(index.replace_schema_metadata({_DESCRIBED: json.dumps(noted).encode()}), sink)


def read_index(source: Path | BinaryIO) -> CopyIndex | None:
    """Return the index of a copy; None: there is none, or it is not one of a copy."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        index = pq.ParquetFile(source).read()
    except (OSError, pa.ArrowException):
        return None
    return CopyIndex(index) if _DESCRIBED in (index.schema.metadata or {}) else None


def read_copy(target: Path, digest: str) -> PartitionedCopy | None:
    """
    Return the copy in a folder; None: it is not complete, or not of the same rows.

    :param target: folder of the copy.
    :param digest: see ``copy_digest``.
    """
    index = read_index(target / INDEX)
    if index is None or index.digest != digest:
        return None
    if any(_size(f"{target}/{path}") != size for path, size in index.sizes.items()):
        return None
    return index.copy().below(str(target))


def listed_files(target: Path) -> set[str]:
    """Return the relative paths of all files of the copy in a folder, with the index; empty: there is no copy."""
    index = read_index(target / INDEX)
    return set() if index is None else {INDEX, *index.sizes}


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)  # noqa: PTH202 - a million of them
    except OSError:
        return None
