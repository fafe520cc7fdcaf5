"""
Which bytes of a table file a worker process reads for a piece; a sparse local copy has these in their places.

Text is read in ranges of bytes. Of Parquet and Arrow files the index at the end is read too, and of text whose files
have each their own header, that header. This is the *frame* of a file: it is the same for all its pieces.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from airflow_prs.errors import PrsError, StagingError
from airflow_prs.node.input.remote_file import RemoteFile
from airflow_prs.records import InputKind, InputSpec, Piece
from airflow_prs.worker.reading import alike, row_filter

_TAIL_BYTES = 64 * 1024
_GAP_BYTES = 1024 * 1024
"""Ranges with less between them are read in one request: waiting for another one takes longer."""
_FRAMES_BYTES = 64 * 1024 * 1024
_HEADER_BYTES = 64 * 1024
_LONGEST_HEADER = 64 * 1024 * 1024
_PARQUET_SLACK = 128
"""Old writers leave the header of a dictionary page out of a chunk's size, so Arrow reads some bytes more."""
_ARROW_BEGIN, _ARROW_END = b"ARROW1\0\0", b"ARROW1"
_BLOCK = struct.Struct("<qi4xq")
_DICTIONARIES, _RECORD_BATCHES = 2, 3
"""Fields of the footer of an Arrow file, a flatbuffer."""

Range = tuple[int, int]
"""First byte, and one past the last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """
    What all pieces of a file need.

    :param size: of the file in bytes; None: it does not matter.
    :param known: bytes of the file and where they begin.
    :param row_groups: the ranges that each row group or record batch needs.
    """

    size: int | None = None
    known: tuple[tuple[int, bytes], ...] = ()
    row_groups: tuple[tuple[Range, ...], ...] = ()


NO_FRAME = Frame()


class Frames:
    """
    Reads frames, and keeps the last ones up to some size. Threads may share it.

    :param specs: the inputs of the run.
    """

    def __init__(self, specs: Mapping[str, InputSpec]) -> None:
        self._specs = specs
        self._lock = threading.Lock()
        self._frames: OrderedDict[Any, Future[Frame]] = OrderedDict()
        self._bytes = 0

    def find(self, file: RemoteFile, input_name: str) -> Frame:
        """
        Return the frame of a file.

        :raises StagingError: if it cannot be read.
        """
        key = (input_name, file.address, file.version)
        with self._lock:
            future = self._frames.get(key)
            is_mine = future is None
            if future is None:
                future = self._frames[key] = Future()
            self._frames.move_to_end(key)
        if is_mine:
            try:
                frame = self._read(file, self._specs[input_name])
            except BaseException as error:
                with self._lock:
                    del self._frames[key]
                future.set_exception(error)
                raise
            future.set_result(frame)
            self._keep(frame)
        return future.result()

    def _keep(self, frame: Frame) -> None:
        with self._lock:
            self._bytes += _weight(frame)
            while self._bytes > _FRAMES_BYTES and len(self._frames) > 1:
                key, oldest = next(iter(self._frames.items()))
                if not oldest.done():
                    break
                del self._frames[key]
                self._bytes -= _weight(oldest.result())

    def _read(self, file: RemoteFile, spec: InputSpec) -> Frame:
        if spec.kind is InputKind.DELIMITED:
            return _read_header(file, spec.options)
        make = _parquet_frame if spec.kind is InputKind.PARQUET else _arrow_frame
        try:
            return make(file, spec.options)
        except PrsError:
            raise
        except Exception as error:  # the footer is damaged
            message = " ".join(str(error).split())
            raise StagingError(
                f"{file.address}: its footer cannot be read: {type(error).__name__}: {message}"
            ) from error


def has_frame(spec: InputSpec, piece: Piece) -> bool:
    """Return whether a piece of an input is read with the frame of its file."""
    return piece.row_group is not None or (spec.options.get("header") == "each" and bool(piece.begin))


def ranges_of(piece: Piece, frame: Frame) -> list[Range]:
    """Return the ranges to read for a piece that is not an entire file, besides the frame of the file."""
    if piece.row_group is None:
        return [] if piece.begin is None or piece.end is None else [(piece.begin, piece.end)]
    return list(_merged(sorted(frame.row_groups[piece.row_group])))


def _merged(ranges: list[Range]) -> Iterator[Range]:
    begin = end = 0
    for following, its_end in ranges:
        if following - end > _GAP_BYTES or begin == end:
            if begin < end:
                yield begin, end
            begin, end = following, its_end
        end = max(end, its_end)
    if begin < end:
        yield begin, end


def _weight(frame: Frame) -> int:
    return sum(len(data) for _, data in frame.known) + 64 * sum(map(len, frame.row_groups))


# Text


def _read_header(file: RemoteFile, options: Mapping[str, Any]) -> Frame:
    """Return a frame with the beginning of a file, at least up to the end of its header."""
    total, size = file.size(), _HEADER_BYTES
    while True:
        data = bytes(file.read(0, min(size, total)))
        if size >= min(total, _LONGEST_HEADER) or _has_header(data, options):
            return Frame(known=((0, data),))
        size *= 4


def _has_header(data: bytes, options: Mapping[str, Any]) -> bool:
    """Return whether the beginning of a file has a complete record, comments and blank lines aside."""
    text, _, _ = data.decode(options.get("encoding") or "utf-8", "ignore").rpartition("\n")
    comment = options.get("comment")
    lines = [line.partition(comment)[0] if comment else line for line in text.splitlines()]
    return any(line.strip() for line in lines) and text.count('"') % 2 == 0


# Files with an index at their end


def _read_footer(file: RemoteFile, length_of: Callable[[bytes], int]) -> tuple[int, int, bytes]:
    """
    Return the size of a file, and where its last bytes begin and what they are: the footer at least.

    :param length_of: returns the length of a footer from bytes at the end of a file.
    """
    size = file.size()
    begin = max(0, size - _TAIL_BYTES)
    tail = bytes(file.read(begin, size))
    missing = length_of(tail) - len(tail)
    if missing > 0:
        begin -= min(begin, missing)
        tail = bytes(file.read(begin, size - len(tail))) + tail
    return size, begin, tail


def _parquet_frame(file: RemoteFile, options: Mapping[str, Any]) -> Frame:
    import pyarrow as pa
    import pyarrow.parquet

    size, begin, tail = _read_footer(file, lambda tail: int.from_bytes(tail[-8:-4], "little") + 8)
    metadata = pa.parquet.read_metadata(pa.BufferReader(tail))
    wanted = _wanted_columns(options, metadata.schema.to_arrow_schema().names)
    row_groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(position) for position in range(group.num_columns)]
        row_groups.append(tuple(_range_of(chunk, size) for chunk in chunks if _is_in(chunk.path_in_schema, wanted)))
    return Frame(size=size, known=((begin, tail),), row_groups=tuple(row_groups))


def _wanted_columns(options: Mapping[str, Any], names: list[str]) -> list[str]:
    """Return the names of the columns that a worker process reads, also those that a file lacks."""
    if (encoded := options.get("schema")) is None:
        return names
    conditions = options.get("filter")
    return [*alike.read_schema(encoded).names, *([] if conditions is None else row_filter.columns_of(conditions))]


def _is_in(path: str, names: list[str]) -> bool:
    # As pyarrow chooses columns: a name with a dot also stands for all names that begin with it.
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _range_of(chunk: Any, size: int) -> Range:
    begin = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        begin = min(begin, chunk.dictionary_page_offset)
    return begin, min(size, begin + chunk.total_compressed_size + _PARQUET_SLACK)


def _arrow_frame(file: RemoteFile, options: Mapping[str, Any]) -> Frame:
    import pyarrow as pa

    end = len(_ARROW_END) + 4
    size, begin, tail = _read_footer(file, lambda tail: int.from_bytes(tail[-end : 4 - end], "little") + end)
    if not tail.endswith(_ARROW_END):
        raise StagingError(f"{file.address}: it does not end as an Arrow file does")
    footer = tail[-end - int.from_bytes(tail[-end : 4 - end], "little") : -end]
    dictionaries = tuple(_blocks(footer, _DICTIONARIES))
    batches = list(_blocks(footer, _RECORD_BATCHES))
    with pa.ipc.open_file(pa.BufferReader(_ARROW_BEGIN + tail)) as reader:
        names = reader.schema.names
    if not set(_wanted_columns(options, names)) <= set(names):
        # An index that pandas did not store as a column is counted, from the first row of the file on.
        batches = [(0, end) for _, end in batches]
    groups = tuple((batch, *dictionaries) for batch in batches)
    return Frame(size=size, known=((0, _ARROW_BEGIN), (begin, tail)), row_groups=groups)


def _blocks(footer: bytes, field: int) -> Iterator[Range]:
    """Yield the range of each block that a field of the footer lists: offset, length of metadata, length of data."""
    root = struct.unpack_from("<I", footer)[0]
    table = root - struct.unpack_from("<i", footer, root)[0]
    slot = 4 + 2 * field
    is_absent = slot >= struct.unpack_from("<H", footer, table)[0]
    offset = 0 if is_absent else struct.unpack_from("<H", footer, table + slot)[0]
    if not offset:
        return
    vector = root + offset + struct.unpack_from("<I", footer, root + offset)[0]
    for number in range(struct.unpack_from("<I", footer, vector)[0]):
        begin, metadata, data = _BLOCK.unpack_from(footer, vector + 4 + number * _BLOCK.size)
        yield begin, begin + metadata + data
