"""The rows of all mini-batches, in the order of the input, put in their place as one file."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_prs.errors import PublicationError, RunFolderError
from airflow_prs.records import Status
from airflow_prs.run_folder import files

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.committed import Committed
    from airflow_prs.run_folder.folder import RunFolder
    from airflow_prs.run_folder.names import AttemptNames

_STRETCH_BYTES = 4 << 20
_STRETCH_PIECES = 16_384
# Void bytes between two pieces are read along: up to a page that costs less than a read of its own.
_GAP_BYTES = 4096
_OPEN_FILES = 64

_ADVICE = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Give the worker's user the right to write there",
    errno.EPERM: "Give the worker's user the right to write there",
}


def publish_rows(target: Path, committed: Committed, *, confirm: Callable[[], None]) -> None:
    """
    Let a file with the rows of all mini-batches appear, whole or not at all.

    :param confirm: called right before the file gets its name; what it raises prevents that.
    :raises RunFolderError: if rows are not what was committed.
    :raises PublicationError: if the file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as out:
            out.write(_read_header(committed.folder))
            for state in committed.states:
                copy_rows(committed.outcomes(state), committed.attempts(state), out)
        # A big file takes its time to become durable: that is done before the last look, not after it.
        files.sync_file(temporary)
        confirm()

    try:
        files.make_folder(target.parent)
        files.publish(target, write)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "See to it")
        raise PublicationError(
            f"the result cannot be put at {target}: {error.strerror or error}. What stood there before is untouched. "
            f"{advice} and clear the merge task: it does no mini-batch again."
        ) from error


def _read_header(folder: RunFolder) -> bytes:
    """Read the line of column names that stands once, above the rows; nothing where the format has none."""
    layout = folder.read_layout()
    return b"" if layout is None else json.loads(layout)["header"].encode()


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
            if len(stretch) == 1 and stretch["length"][0] > _STRETCH_BYTES:
                _copy_long(stretch[0], sources, out)
            else:
                _copy_stretch(stretch, sources, out)


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


def _copy_long(piece: Any, sources: _RowsFiles, out: BinaryIO) -> None:
    crc = 0
    offset, end = int(piece["offset"]), int(piece["offset"] + piece["length"])
    while offset < end:
        data = sources.read(piece, offset, min(_STRETCH_BYTES, end - offset))
        crc = zlib.crc32(data, crc)
        out.write(data)
        offset += len(data)
    if crc != piece["crc"]:
        raise sources.damaged(piece)


def _copy_stretch(stretch: npt.NDArray[Any], sources: _RowsFiles, out: BinaryIO) -> None:
    import numpy as np

    data, starts = _read_windows(stretch, sources)
    ends = starts + stretch["length"]
    rows = [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    broken = np.flatnonzero(np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows)) != stretch["crc"])
    if len(broken):
        raise sources.damaged(stretch[broken[0]])
    out.write(b"".join(rows))


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
