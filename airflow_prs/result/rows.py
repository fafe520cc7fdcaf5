"""The rows of mini-batches as they were committed, each verified by its checksum."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_prs.ahead import one_ahead
from airflow_prs.arrow_columns import of_numbers
from airflow_prs.errors import RunFolderError
from airflow_prs.records import Status
from airflow_prs.result.checksums import LONGEST_BEHIND, join_crcs

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.run_folder.names import AttemptNames

_STRETCH_BYTES = 4 << 20
_STRETCH_PIECES = 16_384
# Void bytes between two pieces are read along: up to a page that costs less than a read of its own.
_GAP_BYTES = 4096
_OPEN_FILES = 64


def copy_rows(outcomes: npt.NDArray[Any], attempts: list[AttemptNames], out: BinaryIO) -> None:
    """
    Copy the rows of a shard, verified, in the order of its mini-batches.

    Every byte has to be read for its checksum, so what was verified is what is written, rather than a second copy
    made by the kernel.

    :param outcomes: as read_outcomes gives them.
    :param attempts: those that ``attempt`` of the outcomes counts.
    :raises RunFolderError: if rows are not what was committed.
    """
    with _RowsFiles(attempts) as sources, one_ahead(_read_all(outcomes, sources)) as parts:
        for part in parts:
            if isinstance(part, _Stretch):
                part.verify(sources)
                out.write(part.in_order())
            else:
                out.write(part)


def read_pieces(outcomes: npt.NDArray[Any], attempts: list[AttemptNames]) -> Iterator[bytes | BinaryIO]:
    """
    Read the rows of each mini-batch of a shard, verified before they are given, in order.

    :param outcomes: as read_outcomes gives them.
    :param attempts: those that ``attempt`` of the outcomes counts.
    :return: bytes, or a file where there are many; it is to be read before the next one is asked for.
    :raises RunFolderError: if rows are not what was committed.
    """
    with _RowsFiles(attempts) as sources:
        for pieces in _divide(outcomes):
            if _is_long(pieces):
                for _ in _read_long(pieces[0], sources):
                    pass
                yield io.BufferedReader(_LongPiece(pieces[0], sources))
            else:
                stretch = _read_stretch(pieces, sources)
                stretch.verify(sources)
                yield from stretch.each()


def _read_all(outcomes: npt.NDArray[Any], sources: _RowsFiles) -> Iterator[_Stretch | memoryview]:
    """Read the rows of all mini-batches: many at once, yet to be verified, or parts of a long one."""
    for pieces in _divide(outcomes):
        if _is_long(pieces):
            yield from _read_long(pieces[0], sources)
        else:
            yield _read_stretch(pieces, sources)


def _is_long(pieces: npt.NDArray[Any]) -> bool:
    return len(pieces) == 1 and bool(pieces["length"][0] > _STRETCH_BYTES)


def _divide(outcomes: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Divide outcomes with rows into stretches that fit in memory; one that does not is alone."""
    import numpy as np

    for first in range(0, len(outcomes), _STRETCH_PIECES):
        pieces = outcomes[first : first + _STRETCH_PIECES]
        has_rows = (pieces["status"] == Status.RUN_DONE) & (pieces["length"] > 0)
        if not has_rows.all():
            pieces = pieces.take(np.flatnonzero(has_rows))
        ends = np.cumsum(pieces["length"])
        start, copied = 0, 0
        while start < len(pieces):
            stop = max(start + 1, int(np.searchsorted(ends, copied + _STRETCH_BYTES, side="right")))
            yield pieces[start:stop]
            start, copied = stop, int(ends[stop - 1])


def _read_long(piece: Any, sources: _RowsFiles) -> Iterator[memoryview]:
    """Read a piece part by part; the checksum is known to hold, or not, only after the last one."""
    crc = 0
    offset, end = int(piece["offset"]), int(piece["offset"] + piece["length"])
    while offset < end:
        part = sources.room(min(_STRETCH_BYTES, end - offset))
        sources.read(piece, offset, part)
        crc = zlib.crc32(part, crc)
        yield part
        offset += len(part)
    if crc != piece["crc"]:
        raise sources.damaged(piece)


def _read_stretch(pieces: npt.NDArray[Any], sources: _RowsFiles) -> _Stretch:
    """Read pieces that are neighbours in a rows file at once: processes finish in any order, but near each other."""
    import numpy as np

    source = pieces["attempt"].astype(np.int64) << 32 | pieces["process"]
    order = np.lexsort((pieces["offset"], source))
    source, begins, lengths = source[order], pieces["offset"].take(order), pieces["length"].take(order)
    stops = begins + lengths
    is_first = np.ones(len(pieces), bool)
    is_first[1:] = (source[1:] != source[:-1]) | (begins[1:] < stops[:-1]) | (begins[1:] > stops[:-1] + _GAP_BYTES)
    firsts = np.flatnonzero(is_first)
    sizes = stops[_lasts(firsts, len(pieces))] - begins[firsts]
    window_ends = np.cumsum(sizes)
    data = sources.room(int(window_ends[-1]))
    windows = zip(pieces[order[firsts]], begins[firsts].tolist(), window_ends.tolist(), sizes.tolist(), strict=True)
    for piece, offset, window_end, size in windows:
        sources.read(piece, offset, data[window_end - size : window_end])
    starts = begins + (window_ends - sizes - begins[firsts])[np.cumsum(is_first) - 1]
    return _Stretch(pieces, order, data, starts, starts + lengths)


def _lasts(firsts: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Find the last ones of groups of which the first ones are known."""
    import numpy as np

    return np.append(firsts[1:], count) - 1


class _Stretch:
    """
    Rows of many mini-batches, as they were read.

    :param pieces: in the order of the mini-batches.
    :param order: position of each in that order, in the order of their places.
    :param data: what was read, void bytes between the pieces, too; valid until the read after the next.
    :param starts: where in it each piece starts, in the order of their places.
    :param ends: where it ends.
    """

    def __init__(
        self,
        pieces: npt.NDArray[Any],
        order: npt.NDArray[Any],
        data: memoryview,
        starts: npt.NDArray[Any],
        ends: npt.NDArray[Any],
    ) -> None:
        import numpy as np

        self._pieces, self._order, self._data, self._starts, self._ends = pieces, order, data, starts, ends
        # Pieces without void bytes between them are verified together.
        is_first = np.ones(len(pieces), bool)
        is_first[1:] = (starts[1:] != ends[:-1]) | (np.diff(ends // (LONGEST_BEHIND + 1)) != 0)
        self._run = np.cumsum(is_first) - 1
        self._firsts = np.flatnonzero(is_first)
        self._run_ends = ends[_lasts(self._firsts, len(pieces))]
        runs = zip(starts[self._firsts].tolist(), self._run_ends.tolist(), strict=True)
        self._crcs = np.array([zlib.crc32(data[start:end]) for start, end in runs], np.uint32)

    def verify(self, sources: _RowsFiles) -> None:
        """
        Hold what was read against what was committed.

        :raises RunFolderError: if they are not the same.
        """
        import numpy as np

        behind = self._run_ends[self._run] - self._ends
        is_broken = join_crcs(self._pieces["crc"].take(self._order), behind, self._firsts) != self._crcs
        if is_broken.any():
            damaged = filter(self._is_damaged, np.flatnonzero(is_broken[self._run]).tolist())
            raise sources.damaged(self._pieces[min(map(self._order.__getitem__, damaged))])

    def _is_damaged(self, place: int) -> bool:
        crc = zlib.crc32(self._data[self._starts[place] : self._ends[place]])
        return bool(crc != self._pieces["crc"][self._order[place]])

    def in_order(self) -> Any:
        """Put the rows in the order of the mini-batches, without what lies between them."""
        import numpy as np
        import pyarrow as pa

        is_apart = self._starts[1:] != self._ends[:-1]
        if not is_apart.any() and (self._order[1:] > self._order[:-1]).all():
            return self._data
        # As Arrow sees it, every other element is what lies between two pieces, mostly nothing.
        bounds = np.stack([self._starts, self._ends], axis=1).astype(np.int32)
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self._data)]
        elements = pa.Array.from_buffers(pa.binary(), bounds.size - 1, buffers)
        positions = np.empty(len(bounds), np.int32)
        positions[self._order] = np.arange(0, bounds.size, 2)
        return elements.take(of_numbers(positions)).buffers()[2]

    def each(self) -> Iterator[bytes]:
        """Give the rows of each mini-batch."""
        import numpy as np

        places = np.argsort(self._order)
        for start, end in zip(self._starts[places].tolist(), self._ends[places].tolist(), strict=True):
            yield bytes(self._data[start:end])


class _RowsFiles(ExitStack):
    """The rows files of a shard, opened when they are needed, only so many at once, and memory to read them into."""

    def __init__(self, attempts: list[AttemptNames]) -> None:
        super().__init__()
        self._attempts = attempts
        self._open: dict[Path, BinaryIO] = {}
        self._rooms = [memoryview(b""), memoryview(b"")]

    def room(self, size: int) -> memoryview:
        """Give memory to read into, in turn one of two: new memory for each read would take longer than the read."""
        self._rooms.reverse()
        if len(self._rooms[0]) < size:
            self._rooms[0] = memoryview(bytearray(max(size, _STRETCH_BYTES)))
        return self._rooms[0][:size]

    def read(self, piece: Any, offset: int, into: memoryview) -> None:
        """
        Read from the file that holds a piece.

        What lies beyond the file's end is read as zeros, so that the checksum tells which piece is damaged.

        :raises RunFolderError: if it cannot be read.
        """
        path = self._path(piece)
        try:
            descriptor = self._file(path).fileno()
            done = 0
            while done < len(into) and (count := os.preadv(descriptor, [into[done:]], offset + done)):
                done += count
        except OSError as error:
            raise RunFolderError(
                f"rows of mini-batch {piece['index']} cannot be read from {path}: {error.strerror}. "
                "Nothing was published. Clear the plan task to start over."
            ) from None
        into[done:] = bytes(len(into) - done)

    def damaged(self, piece: Any) -> RunFolderError:
        """Word that a piece is not what was committed."""
        return RunFolderError(
            f"rows of mini-batch {piece['index']} are damaged: bytes {piece['offset']} to "
            f"{piece['offset'] + piece['length']} of {self._path(piece)} are not what was committed. "
            "Nothing was published. Clear the plan task to start over."
        )

    def _path(self, piece: Any) -> Path:
        attempt: AttemptNames = self._attempts[piece["attempt"]]
        return attempt.rows(int(piece["process"]))

    def _file(self, path: Path) -> BinaryIO:
        if path not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self.close()
                self._open.clear()
            self._open[path] = self.enter_context(path.open("rb", buffering=0))
        return self._open[path]


class _LongPiece(io.RawIOBase):
    """The rows of one mini-batch as a file."""

    def __init__(self, piece: Any, sources: _RowsFiles) -> None:
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
