"""
The records that plan, nodes, gatekeeper and merge exchange.

They are frozen values without logic: `run_folder` stores them, and `thresholds` judges the counts in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, IntEnum
from typing import Any, Final, Literal, NamedTuple, get_args

SCHEMA = 2
"""Number of the layout of run folders; readers refuse any other one."""

DIRECT: Final = "direct"
"""The mode of an input whose addresses on object storage run() gets, and not local copies."""

RUNS = "_parallel_run"
"""Name of the folder in an output that holds the run folders; inputs never include it."""


class Piece(NamedTuple):
    """
    A part of one file. It is a tuple because plan makes many pieces, and tuples are made fast.

    :param path: the file.
    :param begin: first byte of a text file, or first row in ``row_group``; None: the entire file.
    :param end: one past the last byte or row; None: the entire file.
    :param row_group: the Parquet row group whose rows ``begin`` and ``end`` count; None: not Parquet.
    :param version: version of the file when plan listed it, see worker.reading.versions; None: it is not known.
    :param row: number of its first row in the file, from 1 (of a Parquet file with a filter, among the rows that pass
        it); None: the entire file.
    :param line: number of the line in which its first record begins; None: not text, or the entire file.
    """

    path: str
    begin: int | None = None
    end: int | None = None
    row_group: int | None = None
    version: str | None = None
    row: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.row_group is not None:
            return f"{self.path}, row group {self.row_group}, rows {self.begin} to {self.end}"
        return self.path if self.begin is None else f"{self.path}, bytes {self.begin} to {self.end}"


class RowsOfPiece(NamedTuple):
    """
    Some rows of a piece.

    :param first: number of the first one in the file, from 1.
    :param last: number of the last one.
    """

    piece: Piece
    first: int
    last: int

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first} to {self.last}"
        return f"{self.piece.path}, {rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatch:
    """
    The data of one call of run().

    :param index: position in the entire input, from 0; the result has this order.
    :param input: name of the input that it was cut from.
    :param items: number of files or rows.
    :param size_bytes: size of its data in the files.
    :param partition: key to value if the input is cut by partition, otherwise None.
    :param pieces: where its data is.
    """

    index: int
    input: str
    items: int
    size_bytes: int
    partition: Mapping[str, Any] | None = None
    pieces: tuple[Piece, ...] = ()

    @property
    def has_rows(self) -> bool:
        """Whether its items are rows of tables, not files."""
        return len(self.pieces) != self.items or any(piece.begin is not None for piece in self.pieces)

    def rows_of(self, spans: Iterable[tuple[int, int]]) -> Iterator[RowsOfPiece]:
        """
        Yield where some of its rows are.

        :param spans: positions in the mini-batch: first, and one past the last one, of each stretch.
        """
        ends = list(itertools.accumulate(map(self._rows_in, self.pieces)))
        for begin, end in spans:
            for piece, stop in zip(self.pieces, ends, strict=True):
                start = stop - self._rows_in(piece)
                first, last = max(begin, start) - start, min(end, stop) - start
                if first < last:
                    row = piece.row or 1
                    yield RowsOfPiece(piece, row + first, row + last - 1)

    def names_of(self, spans: Iterable[tuple[int, int]] = ()) -> Iterator[str]:
        """
        Yield names of items as messages show them: paths, or file and numbers of rows and lines.

        :param spans: as of rows_of(); (): all.
        """
        some = list(spans)
        if not self.has_rows:
            chosen = [self.pieces[begin:end] for begin, end in some] if some else [self.pieces]
            yield from (piece.path for pieces in chosen for piece in pieces)
            return
        for rows in self.rows_of(some or [(0, self.items)]):
            line = rows.piece.line
            yield str(rows) if some or line is None else f"{rows}, from line {line}"

    def _rows_in(self, piece: Piece) -> int:
        if len(self.pieces) == 1:
            return self.items
        return 0 if piece.begin is None or piece.end is None else piece.end - piece.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """
    Consecutive mini-batches: the work of one mapped task instance.

    :param number: from 0; it is also the map index.
    :param first: index of its first mini-batch.
    :param count: number of its mini-batches; 0: its node only takes mini-batches over from others.
    :param items: number of their items.
    :param size_bytes: size of their data.
    """

    number: int
    first: int
    count: int
    items: int
    size_bytes: int

    @property
    def end(self) -> int:
        """One past the index of its last mini-batch."""
        return self.first + self.count

    @property
    def is_borrowing(self) -> bool:
        """Whether it has no mini-batches, and is in no manifest: its node only takes them over from other nodes."""
        return self.count == 0

    @property
    def label(self) -> str:
        """The text that Airflow's UI shows for the map index."""
        if self.is_borrowing:
            return f"shard {self.number} \N{MIDDLE DOT} takes mini-batches over"
        return f"shard {self.number} · mini-batches {self.first}\N{EN DASH}{self.end - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The shards of a plan and its totals; the mini-batches are read shard by shard."""

    mini_batches: int
    items: int
    size_bytes: int
    shards: tuple[Shard, ...]

    def shard(self, number: int) -> Shard:
        """Return a shard; with a number beyond those that were planned, it is a borrowing one."""
        if number < len(self.shards):
            return self.shards[number]
        return Shard(number=number, first=self.mini_batches, count=0, items=0, size_bytes=0)

    def borrowing_shards(self, nodes: int) -> tuple[Shard, ...]:
        """Return the shards that are needed in addition so that this number of nodes can work."""
        return tuple(map(self.shard, range(len(self.shards), min(nodes, self.mini_batches))))


class InputKind(str, Enum):
    """The kind of an input, which determines how pieces become the argument of run()."""

    FILES = "files"
    DELIMITED = "delimited"
    JSON_LINES = "json_lines"
    PARQUET = "parquet"
    ARROW = "arrow"
    QUERY = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """
    What a worker process needs to read one input.

    :param name: the input's name.
    :param kind: format of the files; never query, because plan writes the result of a query as Parquet.
    :param options: what the reader of this kind needs: see inputs.columns.Table.options, and worker.reading.
    :param partition_keys: the keys in the paths, or those of a partitioned copy.
    """

    name: str
    kind: InputKind
    options: Mapping[str, Any] = field(default_factory=dict)
    partition_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """The execution of plan that a run folder belongs to; ``plan`` is the id of plan's task instance."""

    dag_id: str
    run_id: str
    task_id: str
    plan: str


class TryStatus(IntEnum):
    """How the last try of a mini-batch ended; processed_mini-batches.csv has these names."""

    RUN_DONE = 0
    RUN_EXCEPTION = 1
    RUN_TIMEOUT = 2
    RUN_BAD_RESULT = 3
    LOAD_EXCEPTION = 4
    LOAD_TIMEOUT = 5
    PROCESS_DIED = 6
    NODE_DIED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How a mini-batch ended; it will not be tried again.

    :param index: the mini-batch.
    :param status: RUN_DONE, or how its last try failed.
    :param tries: number of tries, including the last one.
    :param items: number of its items.
    :param succeeded: items that succeeded, at most ``items``; 0 if it failed.
    :param returned: elements that run() returned; they may be more than ``items``, which the report shows.
    :param process: number of the worker process (of this attempt) whose rows file has the rows.
    :param offset: first byte of its rows in that file.
    :param length: number of bytes of its rows.
    :param crc: CRC-32 of these bytes.
    :param started: when its last try began, in seconds since the epoch (UTC).
    :param duration_s: duration of the last try, from its start in the worker process until its rows were written.
    :param run_s: time inside run().
    :param cpu_s: CPU time of the worker process during the try.
    """

    index: int
    status: TryStatus
    tries: int
    items: int
    succeeded: int = 0
    returned: int = 0
    process: int = 0
    offset: int = 0
    length: int = 0
    crc: int = 0
    started: float = 0.0
    duration_s: float = 0.0
    run_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether no try succeeded."""
        return self.status is not TryStatus.RUN_DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTry:
    """
    One failed try of a mini-batch.

    :param index: the mini-batch.
    :param try_number: from 1.
    :param final: whether it was the last try, so that the mini-batch failed.
    :param status: how it failed.
    :param error: one line, such as ``ValueError: bad pixel``.
    :param traceback: traceback in the user's code; '': there is none.
    :param items: at most ten of its paths, or of its pieces as text.
    :param node: ``<host>-<shard>-<try>``.
    :param process: name of the worker process, such as ``process000``.
    :param started: when it began, in seconds since the epoch (UTC).
    :param duration_s: how long it took.
    :param log: path of the process's log in the run folder.
    :param spans: the items that failed, by their positions in the mini-batch: first, and one past the last one, of each
        stretch; (): all.
    """

    index: int
    try_number: int
    final: bool
    status: TryStatus
    error: str
    traceback: str = ""
    items: tuple[str, ...] = ()
    node: str = ""
    process: str = ""
    started: float = 0.0
    duration_s: float = 0.0
    log: str = ""
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    The counts of a shard or a run. They can be added and subtracted: ``sum(parts, Progress())``.

    :param total: mini-batches.
    :param handed_out: mini-batches whose first try began.
    :param succeeded: mini-batches that succeeded.
    :param failed: mini-batches that failed all their tries.
    :param failing: mini-batches whose last try failed and that will be tried again.
    :param items_total: items of all mini-batches.
    :param items_succeeded: items that succeeded.
    :param items_failed: items of failed mini-batches, and items for which run() returned no element.
    :param elements: elements that run() returned in mini-batches that succeeded.
    :param output_bytes: size of the committed rows.
    """

    total: int = 0
    handed_out: int = 0
    succeeded: int = 0
    failed: int = 0
    failing: int = 0
    items_total: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    elements: int = 0
    output_bytes: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: Progress) -> Progress:
        return Progress(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})

    @property
    def done(self) -> int:
        """Mini-batches with an outcome."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The thresholds of a run; -1 (percent: 100) allows any number, None is not checked.

    :param error_threshold: how many items of the entire input may fail.
    :param allowed_failed_count: how many mini-batches may fail.
    :param allowed_failed_percent: how many percent of the mini-batches may fail.
    :param count_failed_tries: whether a mini-batch counts as failed while it waits for its next try.
    """

    error_threshold: int = -1
    allowed_failed_count: int | None = None
    allowed_failed_percent: float | None = None
    count_failed_tries: bool = False


LimitName = Literal["error_threshold", "allowed_failed_count", "allowed_failed_percent"]
"""A limit that a person may change while a run goes on, see Limits."""
LIMITS: tuple[str, ...] = get_args(LimitName)


class Ruling(str, Enum):
    """What a run does next."""

    GO_ON = "go on"
    COMPLETE = "complete"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    A ruling and its reason.

    :param ruling: go on, complete or abort.
    :param threshold: name of the threshold that was exceeded; '': none was.
    :param limit: the limit of that threshold; 0: none was exceeded.
    :param count: the count that exceeded it (percent for allowed_failed_percent).
    :param reason: one sentence.
    """

    ruling: Ruling
    threshold: str = ""
    limit: float = 0
    count: float = 0
    reason: str = ""
