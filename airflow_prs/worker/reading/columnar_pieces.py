"""Pieces of Parquet, Arrow and Feather files as DataFrames."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from . import alike, row_filter  # noqa: TID252 - this package has another name in a worker process
from .arrow_files import ArrowFile  # noqa: TID252

OPEN_FILES = 4
"""How many files are kept open: consecutive mini-batches mostly come from the same one."""


class ParquetPieces:
    """
    Reads rows of Parquet files. It keeps a few files open, and the last row group until its end was read.

    :param options: ``schema`` (all rows are cast to it; None: rows stay as the file has them); ``filter`` (None: all
        rows); ``dtypes`` (float64 or object for columns that need it because values are missing in other files).
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._encoded: str | None = options.get("schema")
        self._filter = options.get("filter")
        self._dtypes = options.get("dtypes") or {}
        self._schema: Any = None
        self._categories: dict[str, Any] = {}
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._cut: tuple[str, int, Any] | None = None

    def __call__(
        self,
        path: str,
        begin: int | None,
        end: int | None,
        row_group: int | None,
        *,
        is_partial: bool = False,  # noqa: ARG002 - same signature as for text
    ) -> Any:
        """Return rows of a row group, or of the entire file."""
        if self._schema is None and self._encoded is not None:
            self._schema = alike.with_floats(alike.read_schema(self._encoded), self._dtypes)
            self._categories = alike.categories_in(self._schema)
        table = self._row_group(path, row_group, begin, end)
        if begin is not None:
            table = table.slice(begin, None if end is None else end - begin)
        if self._schema is None:
            return table.to_pandas()
        table = alike.like(table, self._schema, self._categories)
        frame = table.to_pandas()
        for position, name in enumerate(self._schema.names[: len(frame.columns)]):  # the index follows the columns
            if alike.are_rounded_inside(table.column(position)):
                exact = table.column(position).to_pandas(integer_object_nulls=True)
                frame.isetitem(position, exact.array)
            if self._dtypes.get(name) == "object":
                frame.isetitem(position, frame.iloc[:, position].astype(object))
        return frame

    def _row_group(self, path: str, row_group: int | None, begin: int | None, end: int | None) -> Any:
        """Return the rows of a row group that pass the filter, and keep them unless this is the last part."""
        table = None
        if self._cut is not None and self._cut[:2] == (path, row_group):
            table = self._cut[2]
        self._cut = None  # free its memory before the next one is read
        if table is None:
            table = self._wanted(self._open(path), row_group)
        if row_group is not None and begin is not None and end is not None and end < len(table):
            self._cut = (path, row_group, table)
        return table

    def _wanted(self, file: Any, row_group: int | None) -> Any:
        """Read the columns of the schema and of the filter, and return the rows that pass the filter."""
        names = self._names_in(file)
        wanted = names if self._schema is None else self._schema.names
        needed = [name for name in wanted if name in names]
        filtered = [] if self._filter is None else row_filter.columns_of(self._filter)
        table = self._read(file, row_group, [*needed, *(name for name in filtered if name not in needed)])
        table = alike.without_views(table)
        for name in wanted:
            if name not in names:
                table = alike.with_counted_index(table, name, self._rows_before(file, row_group))
        return table if self._filter is None else table.filter(row_filter.expression_of(self._filter, table.schema))

    def _open(self, path: str) -> Any:
        if path not in self._files:
            while len(self._files) >= OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._files[path] = self._make_open(path)
        self._files.move_to_end(path)
        return self._files[path]

    def _make_open(self, path: str) -> Any:
        import pyarrow.parquet

        # Data that is read ahead would stay in memory as long as the file is open.
        return pyarrow.parquet.ParquetFile(path, pre_buffer=False)

    def _names_in(self, file: Any) -> list[str]:
        return list(file.schema_arrow.names)

    def _read(self, file: Any, row_group: int | None, columns: list[str]) -> Any:
        table = file.read(columns=columns) if row_group is None else file.read_row_group(row_group, columns=columns)
        # For a name with a dot pyarrow also reads all columns whose names begin with it.
        return table.select(columns)

    def _rows_before(self, file: Any, row_group: int | None) -> int:
        return sum(file.metadata.row_group(number).num_rows for number in range(row_group or 0))


class ArrowPieces(ParquetPieces):
    """Reads rows of Arrow and Feather files; their record batches count as row groups."""

    def _make_open(self, path: str) -> ArrowFile:
        return ArrowFile(path)

    def _names_in(self, file: Any) -> list[str]:
        return list(file.schema.names)

    def _read(self, file: Any, row_group: int | None, columns: list[str]) -> Any:
        import pyarrow as pa

        names = self._names_in(file)
        reader = file.reader([names.index(name) for name in columns])
        table = reader.read_all() if row_group is None else pa.Table.from_batches([reader.get_batch(row_group)])
        return table.select(columns)

    def _rows_before(self, file: Any, row_group: int | None) -> int:
        reader = file.reader()
        return sum(reader.get_batch(number).num_rows for number in range(row_group or 0))
