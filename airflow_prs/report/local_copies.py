"""Local copies of the parts of objects that rows are read from again, for a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_prs.object_storage.addresses import Address, is_remote, parse_address
from airflow_prs.object_storage.connecting import connect_to
from airflow_prs.object_storage.requests import asking
from airflow_prs.records import InputKind, InputSpec, Piece

MOST_PARTS = 1000
"""Each takes a few requests, and a report must not take much longer than the run."""

MOST_BYTES = 256 * 1024 * 1024
"""Of an object of which no part can be read alone, such as a compressed one."""


def copy_pieces(spec: InputSpec, pieces: Sequence[Piece], folder: Path) -> list[str]:
    """
    Return the local path of each piece; an object is copied as far as the piece needs it, with everything in its place.

    :param folder: an empty one.
    :raises OSError: if an object has changed since plan listed it, is too large, or cannot be read.
    """
    return [
        _copy(spec, piece, folder / str(number)) if is_remote(piece.path) else piece.path
        for number, piece in enumerate(pieces)
    ]


def _copy(spec: InputSpec, piece: Piece, path: Path) -> str:
    with path.open("w+b") as out:
        source = _Object(parse_address(piece.path), piece.version, out)
        if piece.row_group is not None:
            _read_row_group(spec, piece.row_group, source)
        elif piece.begin is not None and piece.end is not None and spec.options.get("header") != "each":
            source.seek(piece.begin)
            source.read(piece.end - piece.begin)
        elif source.size > MOST_BYTES:
            raise OSError(
                f"{piece.path} has more than {MOST_BYTES // 1024**2} MiB, and no part of it can be read alone"
            )
        else:
            source.read(source.size)
    return str(path)


def _read_row_group(spec: InputSpec, number: int, source: _Object) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pa.PythonFile(source, "r")
    if spec.kind is InputKind.PARQUET:
        pq.ParquetFile(file, pre_buffer=False).read_row_group(number)
    else:
        source.read(len(b"ARROW1"))
        batches = pa.ipc.open_file(file)
        # An index that pandas did not store as a column is counted, from the first row of the file on.
        is_counted = any(
            isinstance(index, dict) for index in (batches.schema.pandas_metadata or {}).get("index_columns", ())
        )
        for each in range(0 if is_counted else number, number + 1):
            batches.get_batch(each)


class _Object(io.RawIOBase):
    """
    An object as a file for reading. What is read is also written into a local file, at the same place.

    :param version: its ETag; None: any.
    """

    def __init__(self, address: Address, version: str | None, copy: io.BufferedRandom) -> None:
        self._address = address
        self._connection = connect_to(address.bucket)
        self._options: dict[str, Any] = {} if version is None else {"if_match": version}
        self._copy = copy
        self._position = 0
        with asking(address.bucket, address.key):
            self.size = int(self._connection.objects.head(address.key)["size"])
        copy.truncate(self.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self.size, self._position + len(buffer))
        if end <= self._position:
            return 0
        options: Any = {**self._options, "range": (self._position, end)}
        with asking(self._address.bucket, self._address.key):
            data = bytes(self._connection.bulk.get(self._address.key, options=options).bytes())
        self._copy.seek(self._position)
        self._copy.write(data)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
