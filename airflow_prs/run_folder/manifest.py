"""The manifest: a Parquet file with a row per mini-batch, row groups within shards, totals in the footer."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_prs.arrow_columns import of_numbers
from airflow_prs.errors import RunFolderError
from airflow_prs.inputs.mini_batches import mini_batches_of, schema_of
from airflow_prs.records import SCHEMA, Manifest, MiniBatch, Shard
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.names import MANIFEST
from airflow_prs.settings import check_layout

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_prs.store.port import Store

_MANIFEST: JsonRecords[Manifest] = JsonRecords(Manifest)
_ROWS_READ = 512


def write_manifest(store: Store, batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Manifest:
    """
    Write a manifest atomically, a record batch at a time.

    :param batches: all mini-batches of the shards, in index order.
    :raises RunFolderError: if they are not the mini-batches of the shards.
    """
    import pyarrow.parquet as pq

    manifest = Manifest(
        mini_batches=sum(s.count for s in shards),
        items=sum(s.items for s in shards),
        size_bytes=sum(s.size_bytes for s in shards),
        shards=tuple(shards),
    )
    schema = schema_of(
        {b"airflow_prs": json.dumps({"schema": SCHEMA}).encode(), b"manifest": _MANIFEST.dump_json(manifest)}
    )

    # Without statistics, because every shard reads the footer, which has an entry for each row group.
    with (
        store.writer(MANIFEST) as out,
        pq.ParquetWriter(out, schema, compression="zstd", write_statistics=False) as writer,
    ):
        for part in _parts_of_shards(batches, [shard.end for shard in shards]):
            writer.write_batch(part)
    return manifest


def _parts_of_shards(batches: Iterable[pa.RecordBatch], ends: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Yield record batches, split where shards end, so that no row group belongs to two shards."""
    total = ends[-1] if ends else 0
    index = 0
    for batch in batches:
        first, begin = batch["index"][0].as_py(), 0
        if first != index or first + len(batch) > total:
            raise RunFolderError(
                f"expected mini-batch {index} next, of {total} in the shards; got mini-batches {first} to "
                f"{first + len(batch) - 1}"
            )
        while begin < len(batch):
            end = ends[bisect.bisect_right(ends, index)]
            part = batch.slice(begin, end - index)
            yield part
            begin, index = begin + len(part), index + len(part)
    if index != total:
        raise RunFolderError(f"got {index} mini-batches, but the shards have {total}")


def read_manifest(store: Store) -> Manifest:
    """
    Return the totals and shards from the footer.

    :raises RunFolderError: if there is no manifest, or it has the layout of another version.
    """
    return _manifest_of(_open(store).schema_arrow)


def read_mini_batches(store: Store, first: int, end: int) -> Iterator[MiniBatch]:
    """
    Yield mini-batches in index order, in bounded memory.

    :param first: index of the first one.
    :param end: one past the last one.
    """
    import pyarrow as pa

    file = _open(store)
    for group, start, stop in _row_groups(file):
        if start < end and first < stop:
            # An entire row group, read by several threads, needs four times the memory.
            position = start
            for batch in file.iter_batches(_ROWS_READ, row_groups=[group], use_threads=False):
                rows = pa.Table.from_batches([batch])
                yield from mini_batches_of(rows.slice(max(0, first - position), max(0, end - max(first, position))))
                position += len(batch)


def select_mini_batches(store: Store, indices: Sequence[int]) -> Iterator[MiniBatch]:
    """
    Yield some mini-batches, in bounded memory.

    :param indices: their indices in ascending order.
    """
    import numpy as np

    file = _open(store)
    for group, start, stop in _row_groups(file):
        wanted = indices[bisect.bisect_left(indices, start) : bisect.bisect_left(indices, stop)]
        if wanted:
            rows = file.read_row_group(group).take(of_numbers(np.asarray(wanted, np.int64) - start))
            yield from mini_batches_of(rows)


def read_item_counts(store: Store, first: int, end: int) -> list[int]:
    """Return the numbers of items of some consecutive mini-batches."""
    file = _open(store)
    counts: list[int] = []
    for group, start, stop in _row_groups(file):
        if start < end and first < stop:
            rows = file.read_row_group(group, columns=["items"])
            counts += rows.slice(max(0, first - start), end - max(first, start))["items"].to_pylist()
    return counts


def _row_groups(file: Any) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each row group, its first index and one past its last index."""
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        yield group, start, stop
        start = stop


def _open(store: Store) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = f"{store}/{MANIFEST}"
    try:
        file = pq.ParquetFile(store.reader(MANIFEST), pre_buffer=True)
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} cannot be seen from this machine. Run folders must lie on storage that all nodes share: mount it "
            "at the same path everywhere, or let plan and mini_batches run on the same machine."
        ) from None
    except pa.ArrowInvalid as error:
        raise RunFolderError(f"{path} is damaged: {error}. Clear the plan task to start over.") from None
    stored = json.loads((file.schema_arrow.metadata or {}).get(b"airflow_prs", b'{"schema": 0}'))["schema"]
    check_layout(path, stored)
    return file


def _manifest_of(schema: Any) -> Manifest:
    return _MANIFEST.validate_json(schema.metadata[b"manifest"])
