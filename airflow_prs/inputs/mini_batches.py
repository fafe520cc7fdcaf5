"""Mini-batches in columns, as the manifest holds them: a record batch has a row for each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar
from airflow_prs.records import MiniBatch, Piece
from airflow_prs.worker.values import decode, encode

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

ROWS = 8192
"""Most mini-batches of a record batch, and so of a row group of the manifest."""

PIECES = 65536
"""Most pieces of a record batch, unless it is of one mini-batch that alone has more."""

NONE = -1
"""Stands for None in columns of numbers."""

_ROWS_READ = 512


def schema_of(metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Give the columns of the manifest."""
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
    Put consecutive mini-batches of one input into a record batch.

    :param first: index of the first one.
    :param name: of the input.
    :param items: of each mini-batch.
    :param sizes: bytes of each mini-batch.
    :param partitions: key values of each as ``encode_partition`` writes them; None: it is not cut by partition.
    :param piece_ends: of each mini-batch, one past its last piece, counted in the columns that follow.
    :param paths: of each piece.
    :param places: begin, end and row group of each piece; NONE where it has none.
    :param versions: of the file of each piece; None: they are not known.
    """
    import numpy as np
    import pyarrow as pa

    text = paths.cast(pa.string()) if isinstance(paths, pa.Array) else of_texts(paths)
    numbers = [np.asarray(column, np.int64) for column in places]
    if not isinstance(versions, pa.Array):
        versions = pa.nulls(len(text), pa.string()) if versions is None else of_texts(versions)
    pieces = pa.StructArray.from_arrays(
        [text, *(of_numbers(column, column == NONE) for column in numbers), versions], fields=_piece_fields()
    )
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
    """Put mini-batches that stand in index order into record batches."""
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
                    )
                ],
                versions=[piece.version for piece in pieces],
            )


def mini_batches_of(rows: pa.Table) -> Iterator[MiniBatch]:
    """Read the mini-batches of a table one by one, making objects of a few at a time."""
    for batch in rows.to_batches(max_chunksize=_ROWS_READ):
        pieces = iter(_pieces(batch["pieces"].flatten()))
        names = ("index", "input", "items", "size", "partition")
        columns = [batch[name].to_pylist() for name in names]
        counts = batch["pieces"].value_lengths().to_pylist()
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

    numbers = [pa.field(name, pa.int64()) for name in ("begin", "end", "row_group")]
    return [pa.field("path", pa.string()), *numbers, pa.field("version", pa.string())]


def _pieces(column: pa.StructArray) -> Iterator[Piece]:
    return map(Piece, *(part.to_pylist() for part in column.flatten()))


def encode_partition(partition: Mapping[str, Any]) -> str:
    """Return key values as JSON; see worker.values."""
    return json.dumps(dict(partition), default=encode)


def _decode_partition(text: str) -> dict[str, Any]:
    # Value by value, not by a hook of json: the whole may be one key named "moment".
    return {key: decode(value) for key, value in json.loads(text).items()}
