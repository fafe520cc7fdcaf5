"""Rows sorted by the number of their partition in bounded memory: sorted runs are kept in files, then merged."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.plan.tables import cast, unify

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RUN_BYTES = 128 * 1024 * 1024
"""Rows that are held at once, in the words of Arrow; sorting them takes about three times as much."""

MOST_RUNS = 64
"""Files that are merged at once; each is open then."""

_ROWS_AT_ONCE = 64 * 1024
_NUMBERS = -1
"""Position of the column with the numbers."""


class SortedRuns:
    """
    Takes rows in any order of partitions, and gives them partition by partition, inside in the order of their coming.

    :param folder: for files, which need about as much room as all rows in memory; made by whoever gives it.
    :param name: of the input.
    :param run_bytes: rows that are held at once.
    :param most_runs: files that are merged at once.
    """

    def __init__(self, folder: Path, name: str, *, run_bytes: int = RUN_BYTES, most_runs: int = MOST_RUNS) -> None:
        self._folder = folder
        self._name = name
        self._run_bytes = run_bytes
        self._most_runs = most_runs
        self._held: list[tuple[Any, npt.NDArray[np.int64]]] = []
        self._held_bytes = 0
        self._schema: Any = None
        # Runs of one level follow each other; those of a higher level are made of, and come before, those of a lower.
        self._levels: list[list[Path]] = [[]]
        self._files = 0

    @property
    def schema(self) -> Any:
        """The types that hold all rows so far; None without any."""
        return self._schema

    def add(self, table: Any, numbers: npt.NDArray[np.int64]) -> None:
        """
        Take rows.

        :param numbers: of their partitions.
        :raises InputError: if values of a column have no type in common with those before.
        """
        if self._schema is None:
            self._schema = table.schema
        elif not table.schema.equals(self._schema):
            self._schema = unify([self._schema, table.schema], self._name)
        self._held.append((table, numbers))
        self._held_bytes += table.nbytes + numbers.nbytes
        if self._held_bytes >= self._run_bytes:
            self._spill()

    def partitions(self) -> Iterator[tuple[int, Iterator[Any]]]:
        """Yield the number and the rows of each partition, which are to be read before the next one is asked for."""
        if self._held:
            self._spill()
        paths = [path for level in reversed(self._levels) for path in level]
        with ExitStack() as stack:
            for number, tables in _merge([_Run(path, stack) for path in paths]):
                yield number, (cast(table, self._schema, self._name) for table in tables)

    def _spill(self) -> None:
        import numpy as np
        import pyarrow as pa

        tables, numbers = zip(*self._held, strict=True)
        table = pa.concat_tables([cast(table, self._schema, self._name) for table in tables])
        together = np.concatenate(numbers)
        self._held, self._held_bytes = [], 0
        order = np.argsort(together, kind="stable")
        self._keep(0, iter([table.take(order).append_column("", pa.array(together[order]))]))

    def _keep(self, level: int, tables: Iterator[Any]) -> None:
        """Write a run, and merge those of its level once they are many."""
        if level == len(self._levels):
            self._levels.append([])
        path = self._folder / f"{self._files}.arrow"
        self._files += 1
        _write(path, tables)
        runs = self._levels[level]
        runs.append(path)
        if len(runs) >= self._most_runs:
            self._levels[level] = []
            self._keep(level + 1, self._merged(runs))
            for merged in runs:
                merged.unlink()

    def _merged(self, paths: Sequence[Path]) -> Iterator[Any]:
        with ExitStack() as stack:
            for number, tables in _merge([_Run(path, stack) for path in paths]):
                for table in tables:
                    yield _numbered(cast(table, self._schema, self._name), number)


def _numbered(table: Any, number: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return table.append_column("", pa.array(np.full(len(table), number, np.int64)))


def _write(path: Path, tables: Iterator[Any]) -> None:
    import pyarrow as pa

    first = next(tables)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, first.schema) as writer:
        for table in _batched(first, tables):
            writer.write_table(table, max_chunksize=_ROWS_AT_ONCE)


def _batched(first: Any, tables: Iterator[Any]) -> Iterator[Any]:
    """Put tables together that would make small batches."""
    import pyarrow as pa

    held, rows = [first], len(first)
    for table in tables:
        held.append(table)
        rows += len(table)
        if rows >= _ROWS_AT_ONCE:
            yield pa.concat_tables(held).combine_chunks()
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


class _Run:
    """
    A run that is read from its beginning to its end.

    :ivar number: of the partition that comes next; None at the end.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(stack.enter_context(pa.memory_map(str(path))))
        self._batches = map(self._reader.get_batch, range(self._reader.num_record_batches))
        self.number: int | None = None
        self._batch: Any = None
        self._numbers: Any = None
        self._at = 0
        self._next_batch()

    def take(self) -> Iterator[Any]:
        """Yield the rows of the next partition, without their number."""
        import pyarrow as pa

        number = self.number
        while number is not None and self.number == number:
            end = int(self._numbers.searchsorted(number, "right"))
            columns = self._batch.columns[:_NUMBERS]
            names = self._batch.schema.names[:_NUMBERS]
            part = pa.Table.from_arrays([column.slice(self._at, end - self._at) for column in columns], names=names)
            self._at = end
            if end == len(self._numbers):
                self._next_batch()
            else:
                self.number = int(self._numbers[end])
            yield part

    def _next_batch(self) -> None:
        self._batch = next(self._batches, None)
        self._at = 0
        if self._batch is None:
            self.number = None
        else:
            self._numbers = self._batch.column(self._batch.num_columns - 1).to_numpy()
            self.number = int(self._numbers[0])


def _merge(runs: Sequence[_Run]) -> Iterator[tuple[int, Iterator[Any]]]:
    """Yield the partitions of all runs in the order of their numbers, inside in the order of the runs."""
    waiting = [(run.number, position) for position, run in enumerate(runs) if run.number is not None]
    heapq.heapify(waiting)
    while waiting:
        number = waiting[0][0]
        members = []
        while waiting and waiting[0][0] == number:
            members.append(heapq.heappop(waiting)[1])
        yield number, (table for position in members for table in runs[position].take())
        for position in members:
            following = runs[position].number
            if following is not None:
                heapq.heappush(waiting, (following, position))
