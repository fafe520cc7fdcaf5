"""Cutting files, records and row groups into mini-batches; nothing here reads a file."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.records import MiniBatch, Piece

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NONE = -1


class Cut:
    """
    One input, cut into mini-batches; kept in columns, so that millions of pieces can be held.

    :param name: of the input.
    :param paths: the files that pieces refer to by number.
    :param partition_keys: the keys whose values each mini-batch has; None: they have none.
    :ivar items: items of each mini-batch.
    :ivar sizes: bytes of each mini-batch.
    """

    def __init__(self, name: str, paths: Sequence[str], partition_keys: Sequence[str] | None = None) -> None:
        self.name = name
        self.items = array("q")
        self.sizes = array("q")
        self._paths = paths
        self._pieces: tuple[array[int], ...] = tuple(array("q") for _ in range(4))
        self._ends = array("q")
        self._partition_keys = partition_keys
        self._partitions: list[tuple[Any, ...]] = []
        self._open_items = self._open_size = 0

    def __len__(self) -> int:
        return len(self.items)

    def add_piece(
        self,
        file: int,
        *,
        items: int,
        size_bytes: int,
        span: tuple[int, int] | None = None,
        row_group: int | None = None,
    ) -> None:
        """
        Add a piece to the mini-batch that is being made.

        :param file: number of the file.
        :param span: begin and end as in Piece; None: the whole file.
        """
        begin, end = span or (_NONE, _NONE)
        for column, value in zip(
            self._pieces, (file, begin, end, _NONE if row_group is None else row_group), strict=True
        ):
            column.append(value)
        self._open_items += items
        self._open_size += size_bytes

    def close_mini_batch(self, partition: Sequence[Any] | None = None) -> None:
        """
        End the mini-batch that is being made; the next piece begins another one.

        :param partition: values of the keys of ``partition_keys``, which all mini-batches have then.
        """
        if partition is not None:
            self._partitions.append(tuple(partition))
        self._ends.append(len(self._pieces[0]))
        self.items.append(self._open_items)
        self.sizes.append(self._open_size)
        self._open_items = self._open_size = 0

    def add_empty(self) -> None:
        """Add a mini-batch of one item that has no data."""
        self._open_items = 1
        self.close_mini_batch()

    def gather(self, partition_of: Callable[[int], Mapping[str, Any]]) -> Cut:
        """
        Put the mini-batches of equal key values together, in the order in which these first appear.

        :param partition_of: gives the values of a file, from its number; no mini-batch here crosses files.
        """
        members: dict[tuple[Any, ...], array[int]] = {}
        begins = [0, *self._ends]
        partition: Mapping[str, Any] = {}
        for number, begin in enumerate(begins[:-1]):
            partition = partition_of(self._pieces[0][begin])
            members.setdefault(tuple(partition.values()), array("q")).append(number)
        gathered = Cut(self.name, self._paths, tuple(partition))
        for values, numbers in members.items():
            for number in numbers:
                gathered._take(self, number, range(begins[number], begins[number + 1]))
            gathered.close_mini_batch(values)
        return gathered

    def _take(self, other: Cut, number: int, pieces: range) -> None:
        """Add all pieces of another cut's mini-batch to the one that is being made."""
        for column, source in zip(self._pieces, other._pieces, strict=True):
            column.extend(source[pieces.start : pieces.stop])
        self._open_items += other.items[number]
        self._open_size += other.sizes[number]

    def mini_batches(self, first: int) -> Iterator[MiniBatch]:
        """
        Yield the mini-batches one by one.

        :param first: index of the first one in the whole input.
        """
        begin = 0
        for number, end in enumerate(self._ends):
            yield MiniBatch(
                index=first + number,
                input=self.name,
                items=self.items[number],
                size_bytes=self.sizes[number],
                partition=self._partition(number),
                pieces=tuple(map(self._piece, range(begin, end))),
            )
            begin = end

    def _partition(self, number: int) -> dict[str, Any] | None:
        keys = self._partition_keys
        return None if keys is None else dict(zip(keys, self._partitions[number], strict=True))

    def _piece(self, number: int) -> Piece:
        file, begin, end, row_group = (column[number] for column in self._pieces)
        if begin == _NONE:
            return Piece(self._paths[file])
        return Piece(self._paths[file], begin, end, None if row_group == _NONE else row_group)


def cut_files(name: str, paths: Sequence[str], sizes: Sequence[int], count: int) -> Cut:
    """Cut files into mini-batches of ``count`` files."""
    cut = Cut(name, paths)
    for file, size in enumerate(sizes):
        cut.add_piece(file, items=1, size_bytes=size)
        if (file + 1) % count == 0 or file + 1 == len(paths):
            cut.close_mini_batch()
    return cut


def cut_nothing(name: str, count: int) -> Cut:
    """Make mini-batches without any input."""
    cut = Cut(name, ())
    for _ in range(count):
        cut.add_empty()
    return cut


def cut_partitions(
    name: str, paths: Sequence[str], sizes: Sequence[int], partitions: Iterable[Mapping[str, Any]]
) -> Cut:
    """
    Cut files into one mini-batch per combination of key values, in the order in which these first appear.

    A combination that only empty files have makes none.

    :param partitions: the values of the keys that count, one mapping a file.
    """
    files: dict[tuple[Any, ...], array[int]] = {}
    partition: Mapping[str, Any] = {}
    for file, partition in enumerate(partitions):
        files.setdefault(tuple(partition.values()), array("q")).append(file)
    cut = Cut(name, paths, tuple(partition))
    for values, members in files.items():
        if any(sizes[file] for file in members):
            for file in members:
                cut.add_piece(file, items=1, size_bytes=sizes[file])
            cut.close_mini_batch(values)
    return cut


class RecordCutter:
    """
    Cuts one file's records into mini-batches while they are found, keeping no more than the cuts.

    :param size: bytes or records of a mini-batch; a record that is larger alone is a mini-batch of its own.
    :param is_bytes: whether size is in bytes.
    """

    def __init__(self, size: int, *, is_bytes: bool) -> None:
        self._size = size
        self._is_bytes = is_bytes
        self._begins = array("q")
        self._numbers = array("q")
        self._seen = 0
        self._last = 0

    def feed(self, starts: npt.NDArray[np.int64]) -> None:
        """
        Take the next records.

        :param starts: first byte of each.
        """
        if not len(starts):
            return
        if not self._begins:
            self._open(starts[0], 0)
        if self._is_bytes:
            self._cut_by_bytes(starts)
        else:
            self._cut_by_records(starts)
        self._seen += len(starts)
        self._last = int(starts[-1])

    def finish(self, end: int) -> list[tuple[int, int, int]]:
        """
        Cut what is left.

        :param end: one past the last byte.
        :return: begin, end and number of records of each mini-batch.
        """
        import numpy as np

        if self._begins and self._is_bytes:
            self._cut_by_bytes(np.array([end]))
        if self._begins and self._begins[-1] == end:
            self._begins.pop()
            self._numbers.pop()
        ends = [*self._begins[1:], end]
        numbers = [*self._numbers[1:], self._seen]
        return [
            (begin, stop, next_number - number)
            for begin, stop, number, next_number in zip(self._begins, ends, self._numbers, numbers, strict=False)
        ]

    def _cut_by_records(self, starts: npt.NDArray[np.int64]) -> None:
        first = max(self._size, -(-self._seen // self._size) * self._size)
        for number in range(first, self._seen + len(starts), self._size):
            self._open(starts[number - self._seen], number)

    def _cut_by_bytes(self, starts: npt.NDArray[np.int64]) -> None:
        """Begin the next mini-batch at the last record that starts within reach of the one that is open."""
        while True:
            begin = self._begins[-1]
            beyond = int(starts.searchsorted(begin + self._size, "right"))
            if beyond == len(starts):
                return
            within = int(starts[beyond - 1]) if beyond else self._last
            if within > begin:
                self._open(within, self._seen + beyond - 1)
            else:
                self._open(starts[beyond], self._seen + beyond)

    def _open(self, begin: int | np.int64, number: int) -> None:
        self._begins.append(int(begin))
        self._numbers.append(number)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """
    A row group of a Parquet file.

    :param number: inside the file.
    :param size_bytes: in the file, compressed.
    """

    number: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one row group, from ``begin`` to before ``end``."""

    row_group: int
    begin: int
    end: int
    size_bytes: int


def cut_row_groups(groups: Iterable[RowGroup], size: int, *, is_bytes: bool) -> Iterator[list[Rows]]:
    """
    Cut one file's row groups into mini-batches.

    Whole row groups stand together as long as they fit; one that is too large alone is cut into even parts.

    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    """
    together: list[Rows] = []
    weight = 0
    for group in groups:
        own = group.size_bytes if is_bytes else group.rows
        if together and weight + own > size:
            yield together
            together, weight = [], 0
        if own > size:
            yield from ([part] for part in _parts(group, min(group.rows, -(-own // size))))
        elif group.rows:
            together.append(Rows(group.number, 0, group.rows, group.size_bytes))
            weight += own
    if together:
        yield together


def _parts(group: RowGroup, count: int) -> Iterator[Rows]:
    for part in range(count):
        begin, end = group.rows * part // count, group.rows * (part + 1) // count
        size = group.size_bytes * end // group.rows - group.size_bytes * begin // group.rows
        yield Rows(group.number, begin, end, size)
