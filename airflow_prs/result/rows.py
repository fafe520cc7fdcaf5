"""Read the committed rows of mini-batches, each verified by its checksum."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from airflow_prs.ahead import one_ahead
from airflow_prs.records import TryStatus
from airflow_prs.result.rows_sources import STRETCH_BYTES, open_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.result.rows_sources import RowsSource
    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.shard_log import ShardState

_STRETCH_PIECES = 16_384
# Unused bytes between two pieces are read, too: up to a page, that costs less than a second read.
_GAP_BYTES = 4096
_SMALL_BYTES = 1024


def copy_rows(committed: Committed, state: ShardState, out: IO[bytes]) -> None:
    """
    Copy the rows of a shard in the order of its mini-batches.

    The bytes whose checksums were compared are the bytes that are written.

    :raises DamagedError: if rows are not what was committed.
    """
    outcomes = committed.outcomes(state)
    with open_rows(committed, state) as sources, one_ahead(_read_all(outcomes, sources)) as parts:
        out.writelines(parts)


def read_pieces(committed: Committed, state: ShardState) -> Iterator[bytes | BinaryIO]:
    """
    Read the rows of each mini-batch of a shard in order, and verify them before they are yielded.

    :return: bytes, or a file for many rows; read the file before asking for the next element.
    :raises DamagedError: if rows are not what was committed.
    """
    outcomes = committed.outcomes(state)
    with open_rows(committed, state) as sources:
        for pieces in _divide(outcomes):
            if _is_long(pieces):
                for _ in _read_long(pieces[0], sources):
                    pass
                yield io.BufferedReader(_LongPiece(pieces[0], sources))
            else:
                yield from map(bytes, _read_short(pieces, sources))


def _read_all(outcomes: npt.NDArray[Any], sources: RowsSource) -> Iterator[bytes | memoryview]:
    """Read the rows of all mini-batches in order, in parts of a few MiB."""
    for pieces in _divide(outcomes):
        if _is_long(pieces):
            yield from _read_long(pieces[0], sources)
        else:
            rows = _read_short(pieces, sources)
            yield rows[0] if len(rows) == 1 else b"".join(rows)


def _is_long(pieces: npt.NDArray[Any]) -> bool:
    return len(pieces) == 1 and bool(pieces["length"][0] > STRETCH_BYTES)


def _divide(outcomes: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Divide outcomes with rows into stretches that fit in memory; one that does not fit is alone."""
    import numpy as np

    for first in range(0, len(outcomes), _STRETCH_PIECES):
        pieces = outcomes[first : first + _STRETCH_PIECES]
        has_rows = (pieces["status"] == TryStatus.RUN_DONE) & (pieces["length"] > 0)
        if not has_rows.all():
            pieces = pieces.take(np.flatnonzero(has_rows))
        ends = np.cumsum(pieces["length"])
        start, copied = 0, 0
        while start < len(pieces):
            stop = max(start + 1, int(np.searchsorted(ends, copied + STRETCH_BYTES, side="right")))
            yield pieces[start:stop]
            start, copied = stop, int(ends[stop - 1])


def _read_long(piece: Any, sources: RowsSource) -> Iterator[memoryview]:
    """Read a piece part by part; its checksum is compared after the last part."""
    crc = 0
    offset, end = int(piece["offset"]), int(piece["offset"] + piece["length"])
    while offset < end:
        part = sources.room(min(STRETCH_BYTES, end - offset))
        sources.read(piece, offset, part)
        crc = zlib.crc32(part, crc)
        yield part
        offset += len(part)
    if crc != piece["crc"]:
        raise sources.damaged(piece)


def _read_short(pieces: npt.NDArray[Any], sources: RowsSource) -> list[Any]:
    """
    Read many pieces and compare their checksums.

    :return: the rows of each piece, as bytes or views of bytes; valid until the read after the next.
    """
    import numpy as np

    data, starts = _read_windows(pieces, sources)
    # A copy of a few bytes takes less time than a view of them.
    rows_of = bytes(data) if len(data) < len(pieces) * _SMALL_BYTES else data
    bounds = zip(starts.tolist(), (starts + pieces["length"]).tolist(), strict=True)
    rows = [rows_of[start:end] for start, end in bounds]
    crcs = np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows))
    if (damaged := np.flatnonzero(crcs != pieces["crc"])).size:
        raise sources.damaged(pieces[damaged[0]])
    return rows


def _read_windows(pieces: npt.NDArray[Any], sources: RowsSource) -> tuple[memoryview, npt.NDArray[Any]]:
    """
    Read pieces that are neighbours in a rows file together: processes finish in any order, but near each other.

    :return: what was read, with unused bytes between the pieces, and the start of each piece in it.
    """
    import numpy as np

    source = sources.sources_of(pieces)
    order = np.lexsort((pieces["offset"], source))
    source, begins = source[order], pieces["offset"].take(order)
    stops = begins + pieces["length"].take(order)
    is_first = np.ones(len(pieces), bool)
    is_first[1:] = (source[1:] != source[:-1]) | (begins[1:] < stops[:-1]) | (begins[1:] > stops[:-1] + _GAP_BYTES)
    firsts = np.flatnonzero(is_first)
    sizes = stops[np.append(firsts[1:], len(pieces)) - 1] - begins[firsts]
    window_ends = np.cumsum(sizes)
    data = sources.room(int(window_ends[-1]))
    windows = zip(pieces[order[firsts]], begins[firsts].tolist(), window_ends.tolist(), sizes.tolist(), strict=True)
    for piece, offset, window_end, size in windows:
        sources.read(piece, offset, data[window_end - size : window_end])
    starts = np.empty_like(begins)
    starts[order] = begins + (window_ends - sizes - begins[firsts])[np.cumsum(is_first) - 1]
    return data, starts


class _LongPiece(io.RawIOBase):
    """The rows of one mini-batch as a file."""

    def __init__(self, piece: Any, sources: RowsSource) -> None:
        self._piece = piece
        self._sources = sources
        self._offset = int(piece["offset"])
        self._end = int(piece["offset"] + piece["length"])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = memoryview(buffer).cast("B")[: self._end - self._offset]
        self._sources.read(self._piece, self._offset, part)
        self._offset += len(part)
        return len(part)
