"""Rows sorted by the number of their partition in bounded memory: sorted runs are kept in files, then merged."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.inputs.columnar.gathering import Refuse, cast, gathered, unify
from airflow_prs.inputs.copies.tables import without_type

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RUN_BYTES = 128 * 1024 * 1024
"""Rows that are held at once, in the words of Arrow; sorting them takes about three times as much."""

MOST_RUNS = 64
"""Files that are merged at once; each is open then."""

_BATCH_BYTES = 1024 * 1024
"""What is read of a run at once; of each run one batch is in memory."""


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
        self._refuse = partial(without_type, name)
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
            self._schema = unify([self._schema, table.schema], self._refuse)
        self._held.append((table, numbers))
        self._held_bytes += table.nbytes + numbers.nbytes
        if self._held_bytes >= self._run_bytes:
            self._spill()

    def partitions(self, schema: Any) -> Iterator[tuple[int, Iterator[Any]]]:
        """
        Yield the number and the rows of each partition, as record batches.

        The rows of one are to be read before the next one is asked for.

        :param schema: the columns that are wanted.
        """
        if self._held:
            self._spill()
        paths = [path for level in reversed(self._levels) for path in level]
        yield from _merge(paths, schema, self._refuse)

    def _spill(self) -> None:
        import numpy as np
        import pyarrow as pa

        tables, numbers = zip(*self._held, strict=True)
        table = pa.concat_tables([cast(table, self._schema, self._refuse) for table in tables])
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
        for number, batches in _merge(paths, self._schema, self._refuse):
            for batch in batches:
                yield _numbered(batch, number)


def _numbered(batch: Any, number: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.Table.from_batches([batch]).append_column("", pa.array(np.full(len(batch), number, np.int64)))


def _write(path: Path, tables: Iterator[Any]) -> None:
    import pyarrow as pa

    first = next(tables)
    rows_at_once = max(1, _BATCH_BYTES * len(first) // max(1, first.nbytes))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, first.schema) as writer:
        for tables_of_batch in gathered(itertools.chain([first], tables), rows_at_once):
            writer.write_table(pa.concat_tables(tables_of_batch).combine_chunks(), max_chunksize=rows_at_once)


class _Run:
    """
    A run that is read from its beginning to its end.

    :param schema: the columns that are wanted.
    :ivar number: of the partition that comes next; None at the end.
    """

    def __init__(self, path: Path, schema: Any, refuse: Refuse, stack: ExitStack) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(stack.enter_context(pa.OSFile(str(path), "rb")))
        self._batches = map(self._reader.get_batch, range(self._reader.num_record_batches))
        self._schema = schema
        self._refuse = refuse
        self._rows: Any = None
        self._numbers: Any = None
        self._at = 0
        self.number: int | None = None
        self._next_batch()

    def take(self) -> Iterator[Any]:
        """Yield the rows of the next partition."""
        number = self.number
        while number is not None and self.number == number:
            end = int(self._numbers.searchsorted(number, "right"))
            part = self._rows.slice(self._at, end - self._at)
            self._at = end
            if end == len(self._numbers):
                self._next_batch()
            else:
                self.number = int(self._numbers[end])
            yield part

    def _next_batch(self) -> None:
        batch = next(self._batches, None)
        self._at = 0
        if batch is None:
            self.number = None
        else:
            self._rows = _rows_of(batch, self._schema, self._refuse)
            self._numbers = batch.column(batch.num_columns - 1).to_numpy()
            self.number = int(self._numbers[0])


def _rows_of(batch: Any, schema: Any, refuse: Refuse) -> Any:
    """Give the wanted columns of a batch, which has the numbers behind them."""
    import pyarrow as pa

    whole = pa.Table.from_arrays(batch.columns[:-1], names=batch.schema.names[:-1])
    return cast(whole, schema, refuse).combine_chunks().to_batches()[0]


def _merge(paths: Sequence[Path], schema: Any, refuse: Refuse) -> Iterator[tuple[int, Iterator[Any]]]:
    """Yield the partitions of all runs in the order of their numbers, inside in the order of the runs."""
    with ExitStack() as stack:
        yield from _merged([_Run(path, schema, refuse, stack) for path in paths])


def _merged(runs: Sequence[_Run]) -> Iterator[tuple[int, Iterator[Any]]]:
    waiting = [(run.number, position) for position, run in enumerate(runs) if run.number is not None]
    heapq.heapify(waiting)
    while waiting:
        number = waiting[0][0]
        members = []
        while waiting and waiting[0][0] == number:
            members.append(heapq.heappop(waiting)[1])
        yield number, itertools.chain.from_iterable(runs[position].take() for position in members)
        for position in members:
            following = runs[position].number
            if following is not None:
                heapq.heappush(waiting, (following, position))
