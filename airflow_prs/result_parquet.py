"""The Arrow streams of all mini-batches, in the order of the input, as one Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs import result_rows

if TYPE_CHECKING:
    from airflow_prs.committed import Committed

_GROUP_ROWS = 1_000_000
_GROUP_BYTES = 128 << 20
# Tables of few rows take more memory than their rows do; so many of them are made one.
_MOST_TABLES = 1000


def write_parquet(path: Path, committed: Committed) -> None:
    """
    Write one Parquet file, in memory for one row group.

    :raises RunFolderError: if rows are not what was committed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = committed.folder.read_layout()
    schema = pa.schema([]) if layout is None else pa.ipc.read_schema(pa.py_buffer(layout))
    with pq.ParquetWriter(path, schema) as writer:
        group = _RowGroup(writer)
        for table in _tables(committed):
            # Where a column had no type yet when it was written, it has one now.
            group.add(table if table.schema.equals(schema) else table.cast(schema))
        group.flush()


def _tables(committed: Committed) -> Iterator[Any]:
    import pyarrow as pa

    for state in committed.states:
        for stream in result_rows.read_pieces(committed.outcomes(state), committed.attempts(state)):
            for batch in pa.ipc.open_stream(stream):
                yield pa.Table.from_batches([batch])


class _RowGroup:
    """Gathers tables until they are a row group."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._tables: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, table: Any) -> None:
        self._tables.append(table)
        self._rows += len(table)
        self._bytes += table.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()
        elif len(self._tables) > _MOST_TABLES:
            self._tables = [self._joined().combine_chunks()]

    def flush(self) -> None:
        if self._tables:
            self._writer.write_table(self._joined(), row_group_size=self._rows)
            self._tables, self._rows, self._bytes = [], 0, 0

    def _joined(self) -> Any:
        import pyarrow as pa

        return pa.concat_tables(self._tables)
