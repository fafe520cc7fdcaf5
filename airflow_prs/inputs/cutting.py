"""Cut files into mini-batches, and hold these mini-batches in columns. Nothing here reads a file."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_prs.inputs.files.paths import Paths
from airflow_prs.inputs.mini_batches import NONE, PIECES, ROWS, batch_of, encode_partition, mini_batches_of
from airflow_prs.records import MiniBatch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


class Cut:
    """
    Mini-batches of entire files of one input. They are held in columns, since there may be millions.

    :param name: name of the input.
    :param paths: the files; everything else refers to them by number.
    :param partition_keys: the keys whose values each mini-batch has; None: the mini-batches have no keys.
    :ivar items: items of each mini-batch.
    :ivar sizes: bytes of each mini-batch.
    """

    def __init__(self, name: str, paths: Iterable[str], partition_keys: Sequence[str] | None = None) -> None:
        self.name = name
        self.items = array("q")
        self.sizes = array("q")
        self._paths = Paths.of(paths)
        self._files = array("i")
        self._piece_ends = array("q", [0])
        self._partition_keys = partition_keys
        self._partitions: list[tuple[Any, ...]] = []
        self._versions_of: Callable[[npt.NDArray[np.integer]], pa.Array] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def add_files(
        self,
        files: npt.NDArray[np.integer],
        sizes: npt.NDArray[np.int64],
        ends: npt.NDArray[np.integer],
        partition: Sequence[Any] | None = None,
    ) -> None:
        """
        Add mini-batches of entire files.

        :param files: numbers of the files.
        :param sizes: bytes of each file.
        :param ends: for each mini-batch one past the position of its last file in ``files``.
        :param partition: values of ``partition_keys``; only if a single mini-batch is added.
        """
        import numpy as np

        if partition is not None:
            self._partitions.append(tuple(partition))
        begins = np.concatenate(([0], ends[:-1]))
        _extend(self._piece_ends, ends + len(self._files))
        _extend(self.items, ends - begins)
        _extend(self.sizes, np.add.reduceat(sizes, begins) if len(sizes) else sizes)
        _extend(self._files, files)

    def note_versions(self, versions_of: Callable[[npt.NDArray[np.integer]], pa.Array]) -> None:
        """
        Set the versions of the files that the mini-batches were cut from.

        :param versions_of: returns the versions of files by their numbers.
        """
        self._versions_of = versions_of

    def batches(self, first: int) -> Iterator[pa.RecordBatch]:
        """
        Yield the mini-batches in record batches of bounded size; see ``mini_batches.batch_of``.

        :param first: index in the manifest of the first mini-batch.
        """
        import numpy as np

        ends = np.asarray(self._piece_ends)
        start = 0
        while start < len(self):
            within = int(np.searchsorted(ends, ends[start] + PIECES, "right")) - 1
            stop = min(max(within, start + 1), start + ROWS, len(self))
            pieces = slice(int(ends[start]), int(ends[stop]))
            files = np.asarray(self._files[pieces])
            yield batch_of(
                first=first + start,
                name=self.name,
                items=self.items[start:stop],
                sizes=self.sizes[start:stop],
                partitions=self._encoded_partitions(range(start, stop)),
                piece_ends=ends[start + 1 : stop + 1] - ends[start],
                paths=self._paths.take(files),
                places=self._places(pieces),
                versions=None if self._versions_of is None else self._versions_of(files),
            )
            start = stop

    def mini_batches(self, first: int) -> Iterator[MiniBatch]:
        """
        Yield the mini-batches one by one.

        :param first: index in the manifest of the first mini-batch.
        """
        import pyarrow as pa

        for batch in self.batches(first):
            yield from mini_batches_of(pa.Table.from_batches([batch]))

    def _places(self, pieces: slice) -> Sequence[array[int]]:
        """Return begin, end, row group, first row and first line of some pieces."""
        return [array("q", [NONE]) * (pieces.stop - pieces.start)] * 5

    def _encoded_partitions(self, numbers: Iterable[int]) -> list[str | None] | None:
        keys = self._partition_keys
        if keys is None:
            return None
        return [encode_partition(dict(zip(keys, self._partitions[number], strict=True))) for number in numbers]


class TableCut(Cut):
    """Mini-batches of parts of files, added piece by piece."""

    def __init__(self, name: str, paths: Iterable[str], partition_keys: Sequence[str] | None = None) -> None:
        super().__init__(name, paths, partition_keys)
        self._begins, self._ends, self._row_groups = array("q"), array("q"), array("i")
        self._rows, self._lines = array("q"), array("q")
        self._open_items = self._open_size = 0

    def add_piece(
        self,
        file: int,
        *,
        items: int,
        size_bytes: int,
        begin: int = NONE,
        end: int = NONE,
        row_group: int = NONE,
        row: int = NONE,
        line: int = NONE,
    ) -> None:
        """
        Add a piece to the open mini-batch; without begin and row group it is the entire file.

        :param file: number of the file.
        :param row: number of its first row in the file, from 1.
        :param line: number of its first line.
        """
        self._files.append(file)
        self._begins.append(begin)
        self._ends.append(end)
        self._row_groups.append(row_group)
        self._rows.append(row)
        self._lines.append(line)
        self._open_items += items
        self._open_size += size_bytes

    def close_mini_batch(self, partition: Sequence[Any] | None = None) -> None:
        """
        Close the open mini-batch; the next piece opens another one.

        :param partition: values of ``partition_keys``; either all mini-batches have them or none.
        """
        if partition is not None:
            self._partitions.append(tuple(partition))
        self._piece_ends.append(len(self._files))
        self.items.append(self._open_items)
        self.sizes.append(self._open_size)
        self._open_items = self._open_size = 0

    def add_nothing(self) -> None:
        """Add a mini-batch of one item that has no data."""
        self._open_items = 1
        self.close_mini_batch()

    def gather(self, partition_of: Callable[[int], Mapping[str, Any]]) -> TableCut:
        """
        Return one mini-batch for each combination of key values, in the order of their first appearance.

        :param partition_of: returns the key values of a file by its number. No mini-batch may hold pieces of two files.
        """
        members: dict[tuple[Any, ...], array[int]] = {}
        partition: Mapping[str, Any] = {}
        for number in range(len(self)):
            partition = partition_of(self._files[self._piece_ends[number]])
            members.setdefault(tuple(partition.values()), array("q")).append(number)
        gathered = TableCut(self.name, self._paths, tuple(partition))
        for values, numbers in members.items():
            for number in numbers:
                gathered._add_pieces(self, number)
            gathered.close_mini_batch(values)
        return gathered

    def _add_pieces(self, other: TableCut, number: int) -> None:
        """Add all pieces of a mini-batch of another cut to the open one."""
        pieces = slice(other._piece_ends[number], other._piece_ends[number + 1])
        self._files += other._files[pieces]
        self._begins += other._begins[pieces]
        self._ends += other._ends[pieces]
        self._row_groups += other._row_groups[pieces]
        self._rows += other._rows[pieces]
        self._lines += other._lines[pieces]
        self._open_items += other.items[number]
        self._open_size += other.sizes[number]

    def _places(self, pieces: slice) -> Sequence[array[int]]:
        columns = (self._begins, self._ends, self._row_groups, self._rows, self._lines)
        return [column[pieces] for column in columns]


def _extend(column: array[int], numbers: npt.NDArray[np.integer]) -> None:
    column.frombytes(numbers.astype(column.typecode).view("u1").data)


def cut_files(name: str, paths: Iterable[str], sizes: npt.ArrayLike, count: int) -> Cut:
    """
    Return mini-batches of ``count`` files each.

    :param sizes: bytes of each file.
    """
    import numpy as np

    sizes = np.asarray(sizes, np.int64)
    total = len(sizes)
    cut = Cut(name, paths)
    ends = np.arange(count, total + count, count)
    ends[-1:] = total
    cut.add_files(np.arange(total, dtype=np.int32), sizes, ends)
    return cut


def cut_nothing(name: str, count: int) -> Cut:
    """Return mini-batches of one item each, without any data."""
    cut = TableCut(name, ())
    for _ in range(count):
        cut.add_nothing()
    return cut


def cut_partitions(
    name: str, paths: Iterable[str], sizes: npt.ArrayLike, partitions: Iterable[Mapping[str, Any]]
) -> Cut:
    """
    Return one mini-batch for each combination of key values, in the order of their first appearance.

    A combination with only empty files makes no mini-batch.

    :param sizes: bytes of each file.
    :param partitions: key values of each file.
    """
    import numpy as np

    files: dict[tuple[Any, ...], array[int]] = {}
    partition: Mapping[str, Any] = {}
    for file, partition in enumerate(partitions):
        files.setdefault(tuple(partition.values()), array("q")).append(file)
    sizes = np.asarray(sizes, np.int64)
    cut = Cut(name, paths, tuple(partition))
    for values, numbers in files.items():
        members = np.asarray(numbers)
        if sizes[members].any():
            cut.add_files(members, sizes[members], np.array([len(members)]), values)
    return cut
