"""An external sort of rows by the number of their partition: sorted runs are written to files, then merged."""

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
"""Size in Arrow of the rows that are sorted in memory; sorting takes about three times as much memory."""

MOST_RUNS = 64
"""Files that are merged together, and so are open at the same time."""

_BATCH_BYTES = 1024 * 1024
"""Size of a batch of a run. While runs are merged, one batch of each is in memory."""


class SortedRuns:
    """
    Collects rows in any order, and yields them partition by partition. Inside a partition they keep their order.

    :param folder: an existing folder for the runs, which need about as much space as all rows in memory.
    :param name: name of the input.
    :param run_bytes: size of the rows that are sorted in memory.
    :param most_runs: number of files that are merged together.
    """

    def __init__(self, folder: Path, name: str, *, run_bytes: int = RUN_BYTES, most_runs: int = MOST_RUNS) -> None:
        self._folder = folder
        self._refuse = partial(without_type, name)
        self._run_bytes = run_bytes
        self._most_runs = most_runs
        self._held: list[tuple[Any, npt.NDArray[np.int64]]] = []
        self._held_bytes = 0
        self._schema: Any = None
        # The runs of a level are in the order of the rows. A run of a higher level is merged from runs of the level
        # below, and its rows come before all rows of lower levels.
        self._levels: list[list[Path]] = [[]]
        self._files = 0

    @property
    def schema(self) -> Any:
        """Return the schema that holds all rows so far; None: there are no rows."""
        return self._schema

    def add(self, table: Any, numbers: npt.NDArray[np.int64]) -> None:
        """
        Add rows.

        :param numbers: number of the partition of each row.
        :raises InputError: if values of a column have no type in common with earlier ones.
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
        Yield the number of each partition, and its rows as record batches.

        The caller must read the rows of a partition before it asks for the next one.

        :param schema: the columns to return.
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
        self._write_run(0, iter([table.take(order).append_column("", pa.array(together[order]))]))

    def _write_run(self, level: int, tables: Iterator[Any]) -> None:
        """Write a run, and merge all runs of its level into one of the next level if they are too many."""
        if level == len(self._levels):
            self._levels.append([])
        path = self._folder / f"{self._files}.arrow"
        self._files += 1
        _write(path, tables)
        runs = self._levels[level]
        runs.append(path)
        if len(runs) >= self._most_runs:
            self._levels[level] = []
            self._write_run(level + 1, self._merged(runs))
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
    Reads a run from its beginning to its end.

    :param schema: the columns to return.
    :ivar number: number of the next partition; None at the end of the run.
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
    """Return the wanted columns of a batch, whose last column is the number of the partition."""
    import pyarrow as pa

    rows = pa.Table.from_arrays(batch.columns[:-1], names=batch.schema.names[:-1])
    return cast(rows, schema, refuse).combine_chunks().to_batches()[0]


def _merge(paths: Sequence[Path], schema: Any, refuse: Refuse) -> Iterator[tuple[int, Iterator[Any]]]:
    """Yield the partitions of all runs in the order of their numbers; the rows of a partition in that of the runs."""
    with ExitStack() as stack:
        yield from _merge_runs([_Run(path, schema, refuse, stack) for path in paths])


def _merge_runs(runs: Sequence[_Run]) -> Iterator[tuple[int, Iterator[Any]]]:
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
