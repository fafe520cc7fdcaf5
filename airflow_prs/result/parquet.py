"""Write the Arrow streams of all mini-batches, in the order of the input, as one Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from airflow_prs.result import rows as result_rows

if TYPE_CHECKING:
    from airflow_prs.run_folder.committed import Committed

_GROUP_ROWS = 1_000_000
_GROUP_BYTES = 128 << 20
# Tables of few rows take more memory than their rows do, so this many of them are combined.
_MOST_TABLES = 1000
# Limits of small streams that are read as one: their unpacked rows have to fit in memory, too.
_JOINED_BYTES = 1 << 20
_JOINED_STREAMS = 10_000
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def write_parquet(out: IO[bytes], committed: Committed) -> None:
    """
    Write one Parquet file, with one row group in memory.

    :raises RunFolderError: if rows are not what was committed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_prs.worker.writing import widening

    content = committed.folder.layout().newest().content
    known = pa.ipc.read_schema(pa.py_buffer(content)) if content else pa.schema([])
    schema = pa.schema([(field.name, widening.storable(field.type)) for field in known])
    with pq.ParquetWriter(out, schema) as writer:
        group = _RowGroup(writer)
        for table in _tables(committed):
            group.add(table if table.schema.equals(schema) else _widened(table, schema))
        group.flush()


def _widened(table: Any, schema: Any) -> Any:
    """Cast a table that was written before all types of columns were known."""
    import pyarrow as pa

    from airflow_prs.worker.writing import widening

    pairs = zip(table.columns, schema, strict=True)
    return pa.Table.from_arrays([widening.cast_column(column, field.type) for column, field in pairs], schema=schema)


def _tables(committed: Committed) -> Iterator[Any]:
    import pyarrow as pa

    for state in committed.states:
        # To share the columns of a few rows among threads costs many times more than reading them.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        pieces = result_rows.read_pieces(committed, state)
        for stream in join_streams(pieces):
            if isinstance(stream, bytes):
                yield pa.ipc.open_stream(stream, options=options).read_all().combine_chunks()
            else:
                for batch in pa.ipc.open_stream(stream):
                    yield pa.Table.from_batches([batch])


def join_streams(streams: Iterable[bytes | BinaryIO]) -> Iterator[bytes | BinaryIO]:
    """
    Join small Arrow streams that follow each other: to open one costs as much as reading thousands of rows.

    A stream is a message with the schema, messages with the rows, and an end mark. Of consecutive streams with the same
    schema, the first schema and the last end mark are kept.

    :param streams: as read_pieces yields them.
    """
    schema = b""
    bodies: list[bytes] = []
    size = 0
    for stream in streams:
        small = stream if isinstance(stream, bytes) and stream.endswith(_END_OF_STREAM) else b""
        is_full = size >= _JOINED_BYTES or len(bodies) >= _JOINED_STREAMS
        if bodies and (is_full or not small.startswith(schema)):
            yield b"".join([schema, *bodies, _END_OF_STREAM])
            bodies, size = [], 0
        if not small:
            yield stream
            continue
        if not bodies:
            schema = small[: _length_of_first_message(small)]
        bodies.append(small[len(schema) : -len(_END_OF_STREAM)])
        size += len(bodies[-1])
    if bodies:
        yield b"".join([schema, *bodies, _END_OF_STREAM])


def _length_of_first_message(stream: bytes) -> int:
    """Read the length from the eight bytes before the message: a mark, and the length. A schema has no body."""
    return 8 + int.from_bytes(stream[4:8], "little")


class _RowGroup:
    """Gathers tables until they are a row group."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._tables: list[Any] = []
        self._small: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, table: Any) -> None:
        self._small.append(table)
        self._rows += len(table)
        self._bytes += table.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()
        elif len(self._small) > _MOST_TABLES:
            self._tables.append(_joined(self._small).combine_chunks())
            self._small = []

    def flush(self) -> None:
        if self._rows:
            self._writer.write_table(_joined([*self._tables, *self._small]), row_group_size=self._rows)
        self._tables, self._small, self._rows, self._bytes = [], [], 0, 0


def _joined(tables: list[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(tables)
