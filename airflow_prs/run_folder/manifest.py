"""The manifest: a Parquet file with a row per mini-batch, its row groups aligned to shards, totals in the footer."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from airflow_prs.errors import RunFolderError
from airflow_prs.records import SCHEMA, Manifest, MiniBatch, Piece, Shard
from airflow_prs.run_folder import files

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_GROUP = 8192
_ROWS_AT_ONCE = 512
_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def write_manifest(path: Path, mini_batches: Iterable[MiniBatch], shards: Sequence[Shard]) -> Manifest:
    """
    Write a manifest, whole or not at all.

    :param mini_batches: in index order; those of each shard, shard by shard.
    :raises RunFolderError: if the mini-batches are not those that the shards name.
    """
    import pyarrow.parquet as pq

    manifest = Manifest(
        mini_batches=sum(s.count for s in shards),
        items=sum(s.items for s in shards),
        size_bytes=sum(s.size_bytes for s in shards),
        shards=tuple(shards),
    )
    schema = _schema(
        {b"airflow_prs": json.dumps({"schema": SCHEMA}).encode(), b"manifest": _MANIFEST.dump_json(manifest)}
    )

    def write(temporary: Path) -> None:
        source = iter(mini_batches)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for shard in shards:
                for group in _groups(source, shard):
                    writer.write_table(_table(group, schema))
        if next(source, None) is not None:
            raise RunFolderError(f"more mini-batches than the {manifest.mini_batches} of the shards")

    files.publish(path, write)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """
    Read the totals and shards from the footer.

    :raises RunFolderError: if there is no manifest here, or one by a newer version.
    """
    return _manifest_of(_open(path).schema_arrow)


def read_mini_batches(path: Path, first: int, end: int) -> Iterator[MiniBatch]:
    """
    Read mini-batches in index order, in bounded memory.

    :param first: index of the first one.
    :param end: one past the last one.
    """
    file = _open(path)
    for group, start, stop in _row_groups(file):
        if start < end and first < stop:
            rows = file.read_row_group(group).slice(max(0, first - start), end - max(first, start))
            yield from _mini_batches(rows)


def select_mini_batches(path: Path, indices: Sequence[int]) -> Iterator[MiniBatch]:
    """
    Read some mini-batches, in bounded memory.

    :param indices: in ascending order.
    """
    file = _open(path)
    for group, start, stop in _row_groups(file):
        wanted = indices[bisect.bisect_left(indices, start) : bisect.bisect_left(indices, stop)]
        if wanted:
            rows = file.read_row_group(group).take([index - start for index in wanted])
            yield from _mini_batches(rows)


def read_item_counts(path: Path, first: int, end: int) -> list[int]:
    """Read how many items each of some consecutive mini-batches has."""
    file = _open(path)
    counts: list[int] = []
    for group, start, stop in _row_groups(file):
        if start < end and first < stop:
            rows = file.read_row_group(group, columns=["items"])
            counts += rows.slice(max(0, first - start), end - max(first, start))["items"].to_pylist()
    return counts


def _row_groups(file: Any) -> Iterator[tuple[int, int, int]]:
    """Number each row group, with its first index and one past its last."""
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        yield group, start, stop
        start = stop


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} cannot be seen from this machine. Run folders must lie on storage that all nodes share: mount it "
            "at the same path everywhere, or let plan and mini_batches run on the same machine."
        ) from None
    except pa.ArrowInvalid as error:
        raise RunFolderError(f"{path} is damaged: {error}. Clear the plan task to start over.") from None
    stored = json.loads((file.schema_arrow.metadata or {}).get(b"airflow_prs", b'{"schema": 0}'))["schema"]
    if stored > SCHEMA:
        raise RunFolderError(
            f"{path} was written by a newer version of airflow_prs (layout {stored}, this version reads {SCHEMA}); "
            "install the same version on all machines."
        )
    return file


def _manifest_of(schema: Any) -> Manifest:
    return _MANIFEST.validate_json(schema.metadata[b"manifest"])


def _schema(metadata: dict[bytes, bytes]) -> pa.Schema:
    import pyarrow as pa

    piece = pa.struct(
        [("path", pa.string()), ("begin", pa.int64()), ("end", pa.int64()), ("row_group", pa.int64())],
    )
    return pa.schema(
        [
            ("index", pa.int64()),
            ("input", pa.string()),
            ("items", pa.int64()),
            ("size", pa.int64()),
            ("partition", pa.string()),
            ("pieces", pa.list_(piece)),
        ],
        metadata=metadata,
    )


def _groups(source: Iterator[MiniBatch], shard: Shard) -> Iterator[list[MiniBatch]]:
    for start in range(shard.first, shard.end, _ROWS_PER_GROUP):
        size = min(_ROWS_PER_GROUP, shard.end - start)
        group = list(itertools.islice(source, size))
        if len(group) != size or group[0].index != start:
            raise RunFolderError(f"shard {shard.number} has {shard.count} mini-batches from {shard.first}, others came")
        yield group


def _table(group: list[MiniBatch], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    rows = [
        {
            "index": m.index,
            "input": m.input,
            "items": m.items,
            "size": m.size_bytes,
            "partition": None if m.partition is None else json.dumps(dict(m.partition), default=encode_moment),
            "pieces": [{"path": p.path, "begin": p.begin, "end": p.end, "row_group": p.row_group} for p in m.pieces],
        }
        for m in group
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _mini_batches(rows: pa.Table) -> Iterator[MiniBatch]:
    """Make mini-batches of rows, column by column, a part at a time: a node waits for the first of them."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows.slice(start, _ROWS_AT_ONCE).combine_chunks()
        indices, inputs, items, sizes, partitions = (part.column(place).to_pylist() for place in range(5))
        lists = part.column(5).chunk(0)
        pieces = map(Piece._make, zip(*(field.to_pylist() for field in lists.flatten().flatten()), strict=True))
        lengths = lists.value_lengths().to_pylist()
        for index, name, count, size, partition, length in zip(
            indices, inputs, items, sizes, partitions, lengths, strict=True
        ):
            yield MiniBatch(
                index=index,
                input=name,
                items=count,
                size_bytes=size,
                partition=None if partition is None else _partition(partition),
                pieces=tuple(itertools.islice(pieces, length)),
            )


def encode_moment(value: object) -> dict[str, str]:
    """Write a partition value that JSON has no word for: ``{"moment": <ISO 8601>}``."""
    if isinstance(value, datetime):
        return {"moment": value.isoformat()}
    raise TypeError(f"a partition value may be text, a number or a moment, not {type(value).__name__}")


def _partition(text: str) -> dict[str, Any]:
    # Value by value, not by a hook of json: the whole may be one key named "moment".
    return {key: _decode_moment(value) for key, value in json.loads(text).items()}


def _decode_moment(value: Any) -> Any:
    return datetime.fromisoformat(value["moment"]) if isinstance(value, dict) else value
