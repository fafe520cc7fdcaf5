"""The rows of mini-batches as they were committed, each verified by its checksum."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_prs.errors import RunFolderError
from airflow_prs.records import Status

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
    pieces = outcomes[(outcomes["status"] == Status.RUN_DONE) & (outcomes["length"] > 0)]
    with _RowsFiles(attempts) as sources:
        for stretch in _stretches(pieces):
            if _is_long(stretch):
                _read_long(stretch[0], sources, out.write)
            else:
                out.write(b"".join(_read_stretch(stretch, sources)))


def read_pieces(outcomes: npt.NDArray[Any], attempts: list[AttemptNames]) -> Iterator[bytes | BinaryIO]:
    """
    Read the rows of each mini-batch of a shard, verified before they are given, in order.

    :param outcomes: as read_outcomes gives them.
    :param attempts: those that ``attempt`` of the outcomes counts.
    :return: bytes, or a file where there are many; it is to be read before the next one is asked for.
    :raises RunFolderError: if rows are not what was committed.
    """
    pieces = outcomes[(outcomes["status"] == Status.RUN_DONE) & (outcomes["length"] > 0)]
    with _RowsFiles(attempts) as sources:
        for stretch in _stretches(pieces):
            if _is_long(stretch):
                _read_long(stretch[0], sources, lambda _: None)
                yield io.BufferedReader(_LongPiece(stretch[0], sources))
            else:
                yield from _read_stretch(stretch, sources)


def _is_long(stretch: npt.NDArray[Any]) -> bool:
    return len(stretch) == 1 and bool(stretch["length"][0] > _STRETCH_BYTES)


def _stretches(pieces: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Divide pieces into stretches that fit in memory; one that does not is a stretch of its own."""
    import numpy as np

    ends = np.cumsum(pieces["length"])
    start, copied = 0, 0
    while start < len(pieces):
        fitting = int(np.searchsorted(ends, copied + _STRETCH_BYTES, side="right"))
        stop = max(start + 1, min(fitting, start + _STRETCH_PIECES))
        yield pieces[start:stop]
        start, copied = stop, int(ends[stop - 1])


def _read_long(piece: Any, sources: _RowsFiles, take: Callable[[bytes], Any]) -> None:
    crc = 0
    offset, end = int(piece["offset"]), int(piece["offset"] + piece["length"])
    while offset < end:
        data = sources.read(piece, offset, min(_STRETCH_BYTES, end - offset))
        crc = zlib.crc32(data, crc)
        take(data)
        offset += len(data)
    if crc != piece["crc"]:
        raise sources.damaged(piece)


def _read_stretch(stretch: npt.NDArray[Any], sources: _RowsFiles) -> list[bytes]:
    import numpy as np

    data, starts = _read_windows(stretch, sources)
    ends = starts + stretch["length"]
    rows = [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    broken = np.flatnonzero(np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows)) != stretch["crc"])
    if len(broken):
        raise sources.damaged(stretch[broken[0]])
    return rows


def _read_windows(stretch: npt.NDArray[Any], sources: _RowsFiles) -> tuple[bytes, npt.NDArray[Any]]:
    """
    Read pieces that are neighbours in a rows file at once: processes finish in any order, but near each other.

    :return: what was read, and where in it each piece begins.
    """
    import numpy as np

    source = stretch["attempt"].astype(np.int64) << 32 | stretch["process"]
    by_place = np.lexsort((stretch["offset"], source))
    source, begins = source[by_place], stretch["offset"][by_place]
    ends = begins + stretch["length"][by_place]
    is_first = np.ones(len(stretch), bool)
    is_first[1:] = (source[1:] != source[:-1]) | (begins[1:] < ends[:-1]) | (begins[1:] > ends[:-1] + _GAP_BYTES)
    firsts = np.flatnonzero(is_first)
    lasts = np.append(firsts[1:], len(stretch)) - 1
    sizes = ends[lasts] - begins[firsts]
    windows = zip(stretch[by_place[firsts]], begins[firsts].tolist(), sizes.tolist(), strict=True)
    data = b"".join([sources.read(piece, begin, size) for piece, begin, size in windows])
    shift = np.cumsum(sizes) - sizes - begins[firsts]
    starts = np.empty(len(stretch), np.int64)
    starts[by_place] = begins + shift[np.cumsum(is_first) - 1]
    return data, starts


class _RowsFiles(ExitStack):
    """The rows files of a shard, opened when they are needed, only so many at once."""

    def __init__(self, attempts: list[AttemptNames]) -> None:
        super().__init__()
        self._attempts = attempts
        self._open: dict[Path, BinaryIO] = {}

    def read(self, piece: Any, offset: int, size: int) -> bytes:
        """
        Read from the file that holds a piece.

        What lies beyond the file's end is read as zeros, so that the checksum tells which piece is damaged.

        :raises RunFolderError: if it cannot be read.
        """
        path = self._path(piece)
        try:
            descriptor = self._file(path).fileno()
            data = os.pread(descriptor, size, offset)
            while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise RunFolderError(
                f"rows of mini-batch {piece['index']} cannot be read from {path}: {error.strerror}. "
                "Nothing was published. Clear the plan task to start over."
            ) from None
        return data.ljust(size, b"\0")

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
        data = self._sources.read(self._piece, self._offset, min(len(buffer), self._end - self._offset))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
