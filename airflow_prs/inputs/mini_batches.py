"""Mini-batches in columns, as the manifest holds them: a record batch has one row for each mini-batch."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar, to_numbers
from airflow_prs.records import MiniBatch, Piece
from airflow_prs.worker.values import decode, encode

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

ROWS = 8192
"""The most mini-batches of a record batch, and so of a row group of the manifest."""

PIECES = 65536
"""The most pieces of a record batch, unless a single mini-batch has more."""

NONE = -1
"""Stands for None in columns of numbers."""

_ROWS_READ = 512


def schema_of(metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Return the schema of the manifest."""
    import pyarrow as pa

    return pa.schema(
        [
            ("index", pa.int64()),
            ("input", pa.string()),
            ("items", pa.int64()),
            ("size", pa.int64()),
            ("partition", pa.string()),
            ("pieces", pa.list_(pa.struct(_piece_fields()))),
        ],
        metadata=metadata,
    )


def batch_of(
    *,
    first: int,
    name: str,
    items: Sequence[int] | npt.NDArray[np.int64],
    sizes: Sequence[int] | npt.NDArray[np.int64],
    partitions: Sequence[str | None] | None,
    piece_ends: Sequence[int] | npt.NDArray[np.int64],
    paths: Sequence[str] | pa.Array,
    places: Sequence[Sequence[int] | npt.NDArray[np.integer]],
    versions: Sequence[str | None] | pa.Array | None = None,
) -> pa.RecordBatch:
    """
    Return a record batch of consecutive mini-batches of one input.

    :param first: index of the first mini-batch.
    :param name: name of the input.
    :param items: items of each mini-batch.
    :param sizes: bytes of each mini-batch.
    :param partitions: key values of each mini-batch, as ``encode_partition`` returns them; None: the input is not cut
        by partition.
    :param piece_ends: for each mini-batch one past the position of its last piece in the following columns.
    :param paths: path of each piece.
    :param places: begin, end, row group, first row and first line of each piece; NONE for a missing one.
    :param versions: version of the file of each piece; None: not known.
    """
    import numpy as np
    import pyarrow as pa

    text = paths.cast(pa.string()) if isinstance(paths, pa.Array) else of_texts(paths)
    numbers = [np.asarray(column, np.int64) for column in places]
    known = [of_numbers(column, column == NONE) for column in numbers]
    if not isinstance(versions, pa.Array):
        versions = pa.nulls(len(text), pa.string()) if versions is None else of_texts(versions)
    pieces = pa.StructArray.from_arrays([text, *known[:3], versions, *known[3:]], fields=_piece_fields())
    count = len(items)
    columns = [
        of_numbers(np.arange(first, first + count)),
        pa.repeat(text_scalar(name), count),
        of_numbers(np.asarray(items, np.int64)),
        of_numbers(np.asarray(sizes, np.int64)),
        pa.nulls(count, pa.string()) if partitions is None else of_texts(partitions),
        pa.ListArray.from_arrays(of_numbers(np.concatenate(([0], piece_ends)).astype(np.int32)), pieces),
    ]
    return pa.record_batch(columns, schema=schema_of())


def batches_of(mini_batches: Iterable[MiniBatch]) -> Iterator[pa.RecordBatch]:
    """Yield record batches of mini-batches, which must be in the order of their indices."""
    for name, group in itertools.groupby(mini_batches, lambda mini_batch: mini_batch.input):
        while some := list(itertools.islice(group, ROWS)):
            pieces = [piece for mini_batch in some for piece in mini_batch.pieces]
            yield batch_of(
                first=some[0].index,
                name=name,
                items=[m.items for m in some],
                sizes=[m.size_bytes for m in some],
                partitions=[None if m.partition is None else encode_partition(m.partition) for m in some],
                piece_ends=list(itertools.accumulate(len(m.pieces) for m in some)),
                paths=[piece.path for piece in pieces],
                places=[
                    [NONE if number is None else number for number in column]
                    for column in (
                        [piece.begin for piece in pieces],
                        [piece.end for piece in pieces],
                        [piece.row_group for piece in pieces],
                        [piece.row for piece in pieces],
                        [piece.line for piece in pieces],
                    )
                ],
                versions=[piece.version for piece in pieces],
            )


def mini_batches_of(rows: pa.Table) -> Iterator[MiniBatch]:
    """Yield the mini-batches of a table; only a few are objects at the same time."""
    import numpy as np

    for batch in rows.to_batches(max_chunksize=_ROWS_READ):
        # flatten() and value_lengths() would import pyarrow.compute, which takes a third as long as pyarrow.
        lists, ends = batch["pieces"].values, to_numbers(batch["pieces"].offsets)
        pieces = iter(_pieces(lists.slice(ends[0], ends[-1] - ends[0])))
        names = ("index", "input", "items", "size", "partition")
        columns = [batch[name].to_pylist() for name in names]
        counts = np.diff(ends).tolist()
        for index, name, items, size, partition, count in zip(*columns, counts, strict=True):
            yield MiniBatch(
                index=index,
                input=name,
                items=items,
                size_bytes=size,
                partition=None if partition is None else _decode_partition(partition),
                pieces=tuple(itertools.islice(pieces, count)),
            )


def _piece_fields() -> list[pa.Field]:
    import pyarrow as pa

    begin, end, row_group, row, line = (
        pa.field(name, pa.int64()) for name in ("begin", "end", "row_group", "row", "line")
    )
    return [pa.field("path", pa.string()), begin, end, row_group, pa.field("version", pa.string()), row, line]


def _pieces(column: pa.StructArray) -> Iterator[Piece]:
    return map(Piece, *(part.to_pylist() for part in column.flatten()))


def encode_partition(partition: Mapping[str, Any]) -> str:
    """Return key values as JSON; ``worker.values`` encodes those that JSON does not have."""
    return json.dumps(dict(partition), default=encode)


def _decode_partition(text: str) -> dict[str, Any]:
    # Each value by itself, without an object_hook: a partition with a single key may look like an encoded value.
    return {key: decode(value) for key, value in json.loads(text).items()}
