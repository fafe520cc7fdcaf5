"""Where the rows of a shard are read from: files of the run folder, or objects that its commits have uploaded."""

from __future__ import annotations

import bisect
import errno
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.records import TryStatus

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.rows_files import RowsObject
    from airflow_prs.run_folder.shard_log import ShardState
    from airflow_prs.store.port import Store

STRETCH_BYTES = 4 << 20
_OPEN_FILES = 64
_PART_BYTES = 8 << 20
"""The most that one request reads."""
_REQUESTS = 16
"""Requests at the same time."""
_KEPT_BYTES = 256 << 20
_NOTHING_LOST = "Nothing was published. Remove the cause and clear the merge task: no mini-batch runs again."
_START_OVER = "Nothing was published. Clear the plan task to start over."


def open_rows(committed: Committed, state: ShardState) -> RowsSource:
    """Return the rows of a shard, to be used in a with statement."""
    if isinstance(committed.folder.path, Path):
        return _RowsInFiles(committed.rows_path(state))
    return _RowsInObjects(committed.folder.store, committed.rows_objects(state), committed.outcomes(state))


class RowsSource(ExitStack, ABC):
    """The rows of a shard, and memory to read them into."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms = [memoryview(b""), memoryview(b"")]

    def room(self, size: int) -> memoryview:
        """Return memory to read into, in turn one of two: to allocate it would take longer than the read."""
        self._rooms.reverse()
        if len(self._rooms[0]) < size:
            self._rooms[0] = memoryview(bytearray(max(size, STRETCH_BYTES)))
        return self._rooms[0][:size]

    @abstractmethod
    def sources_of(self, pieces: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return a number for each piece; the offsets of pieces with the same number count in the same file."""

    @abstractmethod
    def read(self, piece: Any, offset: int, into: memoryview) -> None:
        """
        Read from what holds a piece.

        Beyond the end there are zeros, so that the checksum shows which piece is damaged.

        :param offset: first byte to read.
        :raises DamagedError: if it is gone.
        :raises RunFolderError: if it cannot be read now: another look may succeed, so the run folder stays in use.
        """

    @abstractmethod
    def place_of(self, piece: Any) -> str:
        """Return the name of what holds a piece."""

    def damaged(self, piece: Any) -> DamagedError:
        """Return the error for a piece that is not what was committed."""
        return DamagedError(
            f"rows of mini-batch {piece['index']} are damaged: bytes {piece['offset']} to "
            f"{piece['offset'] + piece['length']} of {self.place_of(piece)} are not what was committed. {_START_OVER}"
        )

    def _unreadable(self, piece: Any, error: OSError) -> RunFolderError:
        reason = error.strerror or error
        problem = f"rows of mini-batch {piece['index']} cannot be read from {self.place_of(piece)}: {reason}."
        if isinstance(error, FileNotFoundError):
            return DamagedError(f"{problem} {_START_OVER}")
        return RunFolderError(f"{problem} {_NOTHING_LOST}")


class _RowsInFiles(RowsSource):
    """
    Rows in a file for each writer and process, a limited number of them open.

    :param path: returns the path of a rows file, by writer and process of an outcome.
    """

    def __init__(self, path: Callable[[int, int], Path]) -> None:
        super().__init__()
        self._path_of = path
        self._open: dict[Path, BinaryIO] = {}

    def sources_of(self, pieces: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        sources: npt.NDArray[np.int64] = pieces["writer"].astype("int64") << 32 | pieces["process"]
        return sources

    def read(self, piece: Any, offset: int, into: memoryview) -> None:
        try:
            descriptor = self._file(self._path(piece)).fileno()
            done = 0
            while done < len(into) and (count := os.preadv(descriptor, [into[done:]], offset + done)):
                done += count
        except OSError as error:
            raise self._unreadable(piece, error) from None
        into[done:] = bytes(len(into) - done)

    def place_of(self, piece: Any) -> str:
        return str(self._path(piece))

    def _path(self, piece: Any) -> Path:
        return self._path_of(int(piece["writer"]), int(piece["process"]))

    def _file(self, path: Path) -> BinaryIO:
        if path not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self.close()
                self._open.clear()
            self._open[path] = self.enter_context(path.open("rb", buffering=0))
        return self._open[path]


class _Part(NamedTuple):
    """
    A part of an object, which one request reads.

    :param begin: offset of its first byte in all rows of its writer.
    :param first: offset of the first byte of its object.
    """

    begin: int
    end: int
    first: int
    key: str


class _RowsInObjects(RowsSource):
    """
    Rows in objects. Parts of them are read ahead, in the order in which the mini-batches need them.

    :param objects: the objects of each writer, by its position.
    :param outcomes: of the shard, in the order in which their rows are going to be read.
    """

    def __init__(self, store: Store, objects: Sequence[Sequence[RowsObject]], outcomes: npt.NDArray[Any]) -> None:
        super().__init__()
        self._store = store
        self._parts = [[part for each in of_writer for part in _divide(each)] for of_writer in objects]
        self._begins = [[part.begin for part in parts] for parts in self._parts]
        self._order = list(dict.fromkeys(self._needed_parts(outcomes)))
        self._places = {part: place for place, part in enumerate(self._order)}
        self._asked = 0
        self._read: OrderedDict[_Part, Future[bytes | None]] = OrderedDict()
        self._bytes = 0
        self._threads = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="airflow_prs-rows")
        self.callback(self._threads.shutdown, cancel_futures=True)

    def sources_of(self, pieces: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        sources: npt.NDArray[np.int64] = pieces["writer"].astype("int64")
        return sources

    def read(self, piece: Any, offset: int, into: memoryview) -> None:
        end = offset + len(into)
        into[:] = bytes(len(into))
        for part in self._parts_between(int(piece["writer"]), offset, end):
            try:
                rows = self._take(part)
            except OSError as error:
                raise self._unreadable(piece, error) from None
            begin = max(offset, part.begin)
            found = rows[begin - part.begin : end - part.begin]
            into[begin - offset : begin - offset + len(found)] = found

    def place_of(self, piece: Any) -> str:
        begin = int(piece["offset"])
        parts = self._parts_between(int(piece["writer"]), begin, begin + 1)
        return f"{self._store}/{parts[0].key}" if parts else f"the rows in {self._store}, an object of which is gone,"

    def _parts_between(self, writer: int, begin: int, end: int) -> list[_Part]:
        first = max(0, bisect.bisect_right(self._begins[writer], begin) - 1)
        last = bisect.bisect_left(self._begins[writer], end)
        return [part for part in self._parts[writer][first:last] if part.end > begin]

    def _needed_parts(self, outcomes: npt.NDArray[Any]) -> Iterator[_Part]:
        """Yield the parts with the rows of each outcome, in order; a part may come again."""
        import numpy as np

        wanted = outcomes[(outcomes["status"] == TryStatus.RUN_DONE) & (outcomes["length"] > 0)]
        firsts = np.zeros(len(wanted), np.int64)
        for writer, begins in enumerate(self._begins):
            of_writer = wanted["writer"] == writer
            firsts[of_writer] = np.searchsorted(begins, wanted["offset"][of_writer], side="right")
        is_other = np.ones(len(wanted), bool)
        is_other[1:] = (firsts[1:] != firsts[:-1]) | (wanted["writer"][1:] != wanted["writer"][:-1])
        is_other |= wanted["length"] > _PART_BYTES
        for writer, offset, length in wanted[is_other][["writer", "offset", "length"]].tolist():
            yield from self._parts_between(writer, offset, offset + length)

    def _take(self, part: _Part) -> memoryview:
        ahead = self._places.get(part, 0) + 1 + _REQUESTS
        for each in self._order[self._asked : ahead]:
            self._ask(each)
        self._asked = max(self._asked, ahead)
        self._ask(part)
        self._read.move_to_end(part)
        rows = self._read[part].result()
        if rows is None:
            raise FileNotFoundError(errno.ENOENT, "it is gone", part.key)
        while self._bytes > _KEPT_BYTES and next(iter(self._read)) is not part:
            oldest, _ = self._read.popitem(last=False)
            self._bytes -= oldest.end - oldest.begin
        return memoryview(rows)

    def _ask(self, part: _Part) -> None:
        if part not in self._read:
            self._read[part] = self._threads.submit(
                self._store.get, part.key, part.begin - part.first, part.end - part.first
            )
            self._bytes += part.end - part.begin


def _divide(found: RowsObject) -> Iterator[_Part]:
    for begin in range(found.begin, found.end, _PART_BYTES):
        yield _Part(begin, min(begin + _PART_BYTES, found.end), found.begin, found.key)
