"""Arrow and Feather files, in the file format or the streaming format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO


class ArrowFile:
    """
    An Arrow file.

    :param source: its path; or the file, open for reading. A file with a path is mapped into memory.
    :ivar is_stream: whether it is in the streaming format, which has no index of record batches.
    :ivar schema: the schema of its record batches.
    """

    def __init__(self, source: str | BinaryIO) -> None:
        import pyarrow as pa

        self._file = pa.memory_map(source) if isinstance(source, str) else pa.PythonFile(source, "r")
        self.is_stream = self._file.read(6) != b"ARROW1"
        self.schema = self.reader().schema

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def reader(self, columns: list[int] | None = None) -> Any:
        """
        Return a pyarrow reader of the record batches.

        :param columns: positions of the columns to read; None: all.
        """
        import pyarrow as pa

        self._file.seek(0)
        make = pa.ipc.open_stream if self.is_stream else pa.ipc.open_file
        return make(self._file, options=pa.ipc.IpcReadOptions(included_fields=columns))

    def batches(self, columns: list[int] | None = None) -> Iterator[Any]:
        """Yield the record batches."""
        reader = self.reader(columns)
        return iter(reader) if self.is_stream else map(reader.get_batch, range(reader.num_record_batches))
