"""Write failed_rows.parquet: the rows of tables that failed, with the reason, ready to be an input again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_prs.inputs.text.row_lines import lines_of_rows
from airflow_prs.object_storage.addresses import is_remote
from airflow_prs.records import FailedTry, InputKind, InputSpec, MiniBatch
from airflow_prs.report.local_copies import MOST_PARTS, copy_pieces
from airflow_prs.run_folder.committed import Committed
from airflow_prs.run_folder.failures import Spans, find_failures
from airflow_prs.worker.reading.readers import FilesReader, TableReader, make_reader, part_of

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 100_000
MOST_BYTES = 64 * 1024 * 1024
"""As Arrow holds them in memory."""

ROWS_KEPT = f"{MOST_ROWS:,} rows or {MOST_BYTES // 1024**2} MiB"


class FailedRows:
    """
    Reads the rows of tables that failed, as far as there is room.

    :param inputs: how the inputs are read.
    :ivar warnings: what is left out, in sentences.
    """

    def __init__(self, committed: Committed, inputs: Sequence[InputSpec]) -> None:
        self._committed = committed
        self._specs = {spec.name: spec for spec in inputs if spec.kind is not InputKind.FILES}
        self._readers: dict[str, FilesReader | TableReader] = {}
        self.warnings: list[str] = []

    def read(self) -> pa.Table | None:
        """Return the rows with the reasons; None: there are none."""
        tables: list[pa.Table] = []
        rows = size_bytes = parts = 0
        for mini_batch, spans, tries in self._failures():
            parts += sum(is_remote(piece.path) for piece in mini_batch.pieces)
            if rows >= MOST_ROWS or size_bytes >= MOST_BYTES or parts > MOST_PARTS:
                limit = ROWS_KEPT if parts <= MOST_PARTS else f"{MOST_PARTS:,} parts of objects"
                self.warnings.append(f"failed_rows.parquet has only the first failed rows, up to {limit}.")
                break
            try:
                table = self._read(mini_batch, spans, tries)
            except Exception as error:  # noqa: BLE001 - a report must not fail because of what the parsers raise
                self._warn_of(mini_batch, error)
                continue
            tables.append(table)
            rows, size_bytes = rows + len(table), size_bytes + table.nbytes
        return _concatenate(tables) if tables else None

    def _warn_of(self, mini_batch: MiniBatch, error: Exception) -> None:
        if not self.warnings:
            self.warnings.append(
                f"failed_rows.parquet lacks rows that cannot be read, such as those of mini-batch {mini_batch.index}: "
                f"{' '.join(str(error).split())}"
            )

    def _failures(self) -> Iterator[tuple[MiniBatch, Spans, list[FailedTry]]]:
        for state in self._committed.states if self._specs else ():
            for mini_batch, spans, tries in find_failures(self._committed, state):
                if mini_batch.input in self._specs:
                    yield mini_batch, spans, tries

    def _read(self, mini_batch: MiniBatch, spans: Spans, tries: Sequence[FailedTry]) -> pa.Table:
        spec, pieces = self._specs[mini_batch.input], mini_batch.pieces
        if spec.name not in self._readers:
            plain = {"name": spec.name, "kind": spec.kind.value, "options": dict(spec.options)}
            self._readers[spec.name] = make_reader(plain)
        with tempfile.TemporaryDirectory(prefix="airflow_prs-failed-rows-") as folder:
            opened = copy_pieces(spec, pieces, Path(folder))
            places: list[Any] = [
                [piece.path, piece.begin, piece.end, piece.row_group, path]
                for piece, path in zip(pieces, opened, strict=True)
            ]
            # The version of an object was checked when it was copied.
            versions = [None if is_remote(piece.path) else piece.version for piece in pieces]
            frame = self._readers[spec.name].load(places, mini_batch.items, versions)
            lines = lines_of_rows(spec, pieces[0]._replace(path=opened[0]))
        numbers = [number for begin, end in spans for number in range(begin, end)]
        rows = list(mini_batch.rows_of((number, number + 1) for number in numbers))
        reasons: dict[str, list[Any]] = {
            "failed_error": _errors_of(numbers, tries),
            "failed_mini_batch": [mini_batch.index] * len(numbers),
            "failed_file": [row.piece.path for row in rows],
            "failed_row": [row.first for row in rows],
            "failed_line": [None if lines is None else lines[number] for number in numbers],
        }
        return _with_reasons(_as_table(part_of(frame, spans)), reasons)


def write_failed_rows(out: IO[bytes], table: pa.Table) -> None:
    """Write the rows as a Parquet file."""
    import pyarrow.parquet as pq

    pq.write_table(table, out)


def _errors_of(numbers: Sequence[int], tries: Sequence[FailedTry]) -> list[str]:
    """Return the error of each row: its own, or that of the last try of the entire mini-batch."""
    own = {number: one.error for one in tries for begin, end in one.spans for number in range(begin, end)}
    entire = [one.error for one in tries if not one.spans]
    return [own.get(number, entire[-1] if entire else "") for number in numbers]


def _as_table(frame: Any) -> pa.Table:
    """Return a DataFrame as a table; columns of values of several types, which Parquet does not have, become text."""
    import pyarrow as pa

    # An index that is a count of rows would be wrong in another file.
    keeps_index = not isinstance(frame.index, type(frame.iloc[:0].reset_index(drop=True).index))
    frame = frame.rename(columns=str)
    for position, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object":
            column = frame.iloc[:, position]
            try:
                pa.array(column, from_pandas=True)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                frame.isetitem(position, column.map(str, na_action="ignore"))
    return pa.Table.from_pandas(frame, preserve_index=keeps_index)


def _with_reasons(table: pa.Table, reasons: dict[str, list[Any]]) -> pa.Table:
    """Append the columns with the reasons; where the rows were an input before, they replace the old ones."""
    import pyarrow as pa

    table = table.drop_columns([name for name in reasons if name in table.column_names])
    for name, values in reasons.items():
        kind = pa.string() if name in {"failed_error", "failed_file"} else pa.int64()
        table = table.append_column(name, pa.array(values, kind))
    return table


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.concat_tables(tables, promote_options="permissive").slice(0, MOST_ROWS)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # the same column has text in one part and numbers in another
        names = dict.fromkeys(name for table in tables for name in table.column_names)
        mixed = {name for name in names if len(_types_of(name, tables)) > 1}
        return pa.concat_tables([_as_text(table, mixed) for table in tables], promote_options="permissive").slice(
            0, MOST_ROWS
        )


def _types_of(name: str, tables: Sequence[pa.Table]) -> set[pa.DataType]:
    import pyarrow as pa

    return {table.schema.field(name).type for table in tables if name in table.column_names} - {pa.null()}


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    import pyarrow as pa

    fields = [pa.field(field.name, pa.string()) if field.name in names else field for field in table.schema]
    return table.cast(pa.schema(fields))
