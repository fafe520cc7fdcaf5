"""Arrow and Feather files: cut by their record batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.columnar.column_facts import Place, is_decisive, is_wide
from airflow_prs.inputs.columnar.frame_types import FrameTypes
from airflow_prs.inputs.columnar.row_groups import RowGroup, add_row_groups
from airflow_prs.inputs.columns import Columns, chooser
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import ArrowSource, MiniBatchSize
from airflow_prs.worker.reading.arrow_files import ArrowFile


def cut_arrow_files(
    source: ArrowSource, listing: Listing, size: MiniBatchSize, keys: Sequence[str]
) -> tuple[TableCut, Columns]:
    """
    Cut Arrow files (Feather among them) into mini-batches; a file in the streaming format is one mini-batch.

    :param size: bytes or rows of a mini-batch.
    :param keys: the keys in the paths.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read, or its columns or their types do not fit those of other files.
    """
    import pyarrow as pa

    cut = TableCut(source.name, listing.paths)
    types = FrameTypes(chooser(source, keys))
    for file, (path, size_bytes) in enumerate(zip(listing.paths, listing.sizes.tolist(), strict=True)):
        try:
            rows, is_stream = _inspect(listing, path, types)
        except StorageError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path!r} cannot be read as an Arrow or Feather file: {error}") from error
        total = sum(rows)
        if is_stream and total:
            cut.add_piece(file, items=total, size_bytes=size_bytes)
            cut.close_mini_batch()
        elif total:
            groups = [RowGroup(number, count, size_bytes * count // total) for number, count in enumerate(rows)]
            add_row_groups(cut, file, groups, size)
    types.complete(partial(_read, listing))
    return cut, Columns(types.names, *types.schema())


def _inspect(listing: Listing, path: str, types: FrameTypes) -> tuple[list[int], bool]:
    """Return the rows of each record batch of a file, and whether it is a stream; add its columns to ``types``."""
    with closing(ArrowFile(listing.source(path))) as file:
        schema = file.schema
        decisive = [number for number, field in enumerate(schema) if is_decisive(field.type)]
        counts, nulls = [], set()
        for batch in file.batches(decisive or [0]):
            counts.append(batch.num_rows)
            nulls |= {name for name, column in zip(batch.schema.names, batch.columns, strict=True) if column.null_count}
    types.add(path, schema, sum(counts))
    if sum(counts):
        types.note_places(schema, [(path, None)])
    for name, field in types.watched(schema).items():
        facts = types.facts[name]
        facts.has_nulls = facts.has_nulls or name in nulls
        if is_wide(field.type) and sum(counts):
            facts.unsure_sizes.append((path, None))
    return counts, file.is_stream


def _read(listing: Listing, name: str, place: Place) -> Any:
    """Return the values of a column of a file."""
    import pyarrow as pa

    with closing(ArrowFile(listing.source(place[0]))) as file:
        number = file.schema.names.index(name)
        return pa.chunked_array([batch.column(0) for batch in file.batches([number])], file.schema.field(number).type)
