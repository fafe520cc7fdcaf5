"""Parquet files: cut by their footers. Columns are read only if the footers do not determine their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from airflow_prs.ahead import map_ahead
from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.columnar.column_facts import ColumnFacts, Place, is_wide
from airflow_prs.inputs.columnar.frame_types import FrameTypes
from airflow_prs.inputs.columnar.row_groups import RowGroup, add_row_groups
from airflow_prs.inputs.columns import Columns, chooser
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import MiniBatchSize, ParquetSource
from airflow_prs.worker.reading.alike import without_views
from airflow_prs.worker.reading.dtypes import are_exact_as_floats
from airflow_prs.worker.reading.row_filter import columns_of, expression_of, has_unusable_statistics, superset_of
from airflow_prs.worker.values import encode


def cut_parquet_files(
    source: ParquetSource, listing: Listing, size: MiniBatchSize, keys: Sequence[str] = ()
) -> tuple[TableCut, Columns]:
    """
    Cut Parquet files into mini-batches.

    :param size: bytes or rows of a mini-batch.
    :param keys: the keys in the paths.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read, or its columns or their types do not fit those of other files.
    """
    cut = TableCut(source.name, listing.paths)
    types = FrameTypes(chooser(source, keys))
    wanted = _WantedRows(source, listing)
    footers = map_ahead(partial(_read_footer, listing), listing.paths, threads=listing.threads)
    for file, (path, footer) in enumerate(zip(listing.paths, footers, strict=True)):
        schema = footer.schema.to_arrow_schema()
        types.add(path, schema, footer.num_rows)
        matched = None if source.filter is None else wanted.count(path)
        groups = _inspect(path, footer, types.watched(schema), types.facts, matched)
        types.note_places(schema, [(path, group.number) for group in groups])
        add_row_groups(cut, file, groups, size)
    types.complete(
        wanted.read,
        lambda column, path: _inspect_sizes(
            _read_footer(listing, path), path, column, types.facts[column], is_entire=source.filter is None
        ),
    )
    return cut, Columns(types.names, *types.schema())


def _read_footer(listing: Listing, path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # An open file and not a path, which pyarrow could take for a URI.
        with listing.open(path) as file:
            return pq.read_metadata(file)
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path!r} cannot be read as Parquet: {error} "
            "If it is not meant to be input, use a pattern such as 'folder/*.parquet' instead of the folder."
        ) from error


def _inspect(
    path: str, footer: Any, fields: dict[str, Any], facts: dict[str, ColumnFacts], matched: dict[int, int] | None
) -> list[RowGroup]:
    """
    Read the statistics of each column in each row group of a file, once.

    :param fields: the columns whose nulls and sizes of numbers must be known.
    :param facts: what is known about these columns; updated here.
    :param matched: number of wanted rows by row group; None: all rows are wanted.
    :return: the row groups that have wanted rows.
    """
    names = [footer.schema.column(position).path for position in range(footer.num_columns)]
    watched = [
        (position, fields[name].nullable, is_wide(fields[name].type), facts[name])
        for position, name in enumerate(names)
        if name in fields
    ]
    groups = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        rows = group.num_rows
        found = rows if matched is None else matched.get(number, 0)
        if not found:
            continue
        parts = list(map(group.column, range(group.num_columns)))
        size = sum([part.total_compressed_size for part in parts])
        groups.append(RowGroup(number, found, size if found == rows else size * found // rows))
        for position, is_nullable, has_sizes, known in watched:
            if not known.has_nulls or (has_sizes and not known.is_beyond):
                entire, nulls = rows if found == rows else None, None if is_nullable else 0
                _note(known, parts[position], (path, number), entire, nulls, has_sizes=has_sizes)
    return groups


def _note(
    facts: ColumnFacts,
    part: Any,
    place: Place,
    rows: int | None,
    nulls: int | None,
    *,
    has_sizes: bool,
) -> None:
    """
    Update the facts about a column with the statistics of a row group.

    :param part: metadata of the column in the row group.
    :param rows: rows of the row group; None: only some of them are wanted.
    :param nulls: the most nulls that there can be; None: not known without statistics.
    :param has_sizes: whether the sizes of the numbers matter.
    """
    statistics = part.statistics
    if nulls is None and statistics is not None and statistics.has_null_count:
        nulls = statistics.null_count
    if nulls and rows is not None:
        facts.has_nulls = True
    elif nulls != 0 and not facts.has_nulls:
        facts.unsure_nulls.append(place)
    if not has_sizes or facts.is_beyond or (nulls is not None and nulls == rows):
        return
    if facts.has_nulls:
        _note_sizes(facts, statistics, place, is_entire=rows is not None)
    elif not facts.unseen or facts.unseen[-1] != place[0]:
        facts.unseen.append(place[0])


def _note_sizes(facts: ColumnFacts, statistics: Any, place: Place, *, is_entire: bool) -> None:
    """
    Update the facts about the sizes of numbers with the statistics of a row group.

    :param is_entire: whether all rows of the row group are wanted.
    """
    is_known = statistics is not None and statistics.has_min_max
    if is_known and are_exact_as_floats(statistics.min, statistics.max):
        return
    if is_known and is_entire:
        facts.is_beyond = True
    else:
        facts.unsure_sizes.append(place)


def _inspect_sizes(footer: Any, path: str, column: str, facts: ColumnFacts, *, is_entire: bool) -> None:
    """Update the facts about the sizes of numbers of a column with the statistics of all row groups of a file."""
    names = [footer.schema.column(position).path for position in range(footer.num_columns)]
    for number in range(footer.num_row_groups):
        part = footer.row_group(number).column(names.index(column))
        if not (part.statistics is not None and part.statistics.null_count == part.num_values):
            _note_sizes(facts, part.statistics, (path, number), is_entire=is_entire)


class _WantedRows:
    """
    Counts and reads the rows that a filter selects. Statistics save most of the reading.

    :param source: how the files are read; its filter may be None: all rows are wanted.
    :param listing: the files.
    """

    def __init__(self, source: ParquetSource, listing: Listing) -> None:
        self._source = source
        self._listing = listing
        self._conditions: list[Any] = encode(source.filter) or []
        self._open: tuple[str, Any] | None = None

    def count(self, path: str) -> dict[int, int]:
        """Return the number of wanted rows by row group of a file; a missing row group has none."""
        with self._fragment_of(path) as fragment:
            schema = fragment.physical_schema
            parts = fragment.split_by_row_group(superset_of(self._conditions, schema))
            if not any(has_unusable_statistics(name, schema) for name in columns_of(self._conditions)):
                condition = expression_of(self._conditions, schema)
                return {part.row_groups[0].id: part.count_rows(filter=condition) for part in parts}
            return {part.row_groups[0].id: len(self._rows(part)) for part in parts}

    def read(self, name: str, place: Place) -> Any:
        """Return the wanted values of a column in a row group."""
        path, group = place
        with self._fragment_of(path) as fragment:
            return self._rows(fragment.subset(row_group_ids=[group]), name).column(name)

    def _rows(self, part: Any, *names: str) -> Any:
        """Return the wanted rows of a part of a file. The filter is applied after reading, without statistics."""
        import pyarrow.compute as pc

        filtered = columns_of(self._conditions) if self._conditions else []
        table = part.to_table(columns={column: pc.field(column) for column in (*names, *filtered)})
        table = without_views(table)
        return table.filter(expression_of(self._conditions, table.schema)) if self._conditions else table

    @contextmanager
    def _fragment_of(self, path: str) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.dataset

        if self._open is None or self._open[0] != path:
            file = self._listing.source(path)
            system = pa.fs.LocalFileSystem() if isinstance(file, str) else None
            fragment = pyarrow.dataset.ParquetFileFormat().make_fragment(file, system)
            self._open = (path, fragment)
        try:
            yield self._open[1]
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            if not self._conditions:
                raise InputError(f"{path!r} cannot be read: {error}") from error
            schema = self._open[1].physical_schema
            columns = [name for name in columns_of(self._conditions) if name in schema.names]
            there = ", ".join(f"{column} is of type {schema.field(column).type}" for column in columns)
            raise InputError(
                f"the filter {self._source.filter} of {self._source.name!r} does not fit {path!r}: "
                f"{there or 'no such column'}; {error}"
            ) from error
