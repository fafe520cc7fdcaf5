"""Pieces of files as the argument of run(): a list of paths, or a DataFrame whose index is 0 to n-1."""

from __future__ import annotations

import codecs
import functools
import io
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from . import alike, bad_records, row_filter, unpacking  # noqa: TID252 - this package has another name where it is at work
from .arrow_files import ArrowFile  # noqa: TID252
from .dtypes import as_type, is_made_later, type_to_read  # noqa: TID252
from .json_table import JsonTable  # noqa: TID252
from .key_columns import KeyColumns  # noqa: TID252
from .lines import LineError, LineNumbers, breaks_in  # noqa: TID252
from .versions import find_change  # noqa: TID252

OPEN_FILES = 4
"""Parquet files kept open, as consecutive mini-batches mostly come from the same one."""

EXACT_BY_DEFAULT = (3, 1)
"""From this pandas on floats are parsed exactly without a word, and saying so is deprecated."""

_FIRST_LINE = re.compile(rb"\s*[^\r\n]*")

KNOWN_HEADERS = 1000
"""Headers of files kept, where each file has its own."""


_Read = Callable[..., Any]
"""Reads one piece, given as path, begin, end and row group."""


class LoadError(Exception):
    """A mini-batch cannot be read; the message begins with the file."""


def make_reader(spec: dict[str, Any]) -> FilesReader | TableReader:
    """
    Make the reader of an input.

    :param spec: its ``kind`` and ``options``.
    """
    if spec["kind"] == "files":
        return FilesReader()
    keys = spec["options"].get("path_keys")
    make_read = functools.partial(_READERS[spec["kind"]], spec["options"])
    return TableReader(make_read, KeyColumns(keys) if keys else None)


class FilesReader:
    """Hands the paths on as they are."""

    is_table = False

    def load(
        self,
        pieces: list[str],
        items: int,  # noqa: ARG002 - as TableReader has it
        versions: Sequence[str | None] = (),
    ) -> list[str]:
        """
        Give run() a list of its own.

        :raises LoadError: if a file is not the one that plan saw.
        """
        _require_unchanged(pieces, versions)
        return list(pieces)


class TableReader:
    """
    Puts the rows of pieces one after the other.

    :param make_read: makes what reads one piece.
    :param keys: adds the columns whose values stand in the paths; None: there are none.
    """

    is_table = True

    def __init__(self, make_read: Callable[[], _Read], keys: KeyColumns | None = None) -> None:
        self._make_read = make_read
        self._read = make_read()
        self._keys = keys

    def load(self, pieces: list[list[Any]], items: int, versions: Sequence[str | None] = ()) -> Any:
        """
        Read the rows of a mini-batch.

        :param pieces: path, begin, end and row group of each.
        :param items: the number of rows that the plan counted.
        :param versions: of the file of each piece, as plan saw it; None where it is not known.
        :raises LoadError: if a piece cannot be read, there are more or fewer rows, or a file is not the one that plan
            saw.
        """
        paths = [piece[0] for piece in pieces]
        self._require_unchanged(paths, versions)
        try:
            frames = [self._load_piece(*piece) for piece in pieces]
        finally:
            # Also after an error: a change says more than what it led to.
            self._require_unchanged(paths, versions)
        frame = _join(frames)
        if len(frame) != items:
            raise LoadError(_miscounted(pieces, len(frame), items))
        return frame if self._keys is None else self._keys.add(frame, paths, [len(one) for one in frames])

    def _require_unchanged(self, paths: Sequence[str], versions: Sequence[str | None]) -> None:
        try:
            _require_unchanged(paths, versions)
        except LoadError:
            # What it keeps of files may be of another version.
            self._read = self._make_read()
            raise

    def _load_piece(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:
        try:
            return self._read(path, begin, end, row_group)
        except LoadError:
            raise
        except Exception as error:  # pandas and pyarrow raise whatever their parsers find
            message = " ".join(str(error).split())
            raise LoadError(f"{_place(path, begin, end, row_group)}: {type(error).__name__}: {message}") from error


class DelimitedPieces:
    """
    Reads bytes of delimited files, which hold whole records.

    :param options: separator, header (True, False, or "each": files differ), encoding, comment, columns (all, numbers
        without a header; None: unknown), chosen (None: all), dtypes (None: as pandas infers them).
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._header = options.get("header", True)
        self._columns = options.get("columns")
        self._chosen = options.get("chosen")
        dtypes = options.get("dtypes") or {}
        typed = self._chosen or self._columns or dtypes
        self._dtypes = {name: dtypes[str(name)] for name in typed if str(name) in dtypes}
        self._headers: dict[str, list[str]] = {}
        self._numbers = LineNumbers(breaks_in)
        self._options = options
        self._arguments: dict[str, Any] = {
            "sep": options.get("separator", ","),
            "encoding": options.get("encoding", "utf-8"),
            "comment": options.get("comment"),
            "index_col": False,
            "low_memory": False,
        }

    def __call__(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:  # noqa: ARG002
        """Read the records between two positions; a whole file may have a header."""
        data = _read_whole(path) if begin is None else _read_bytes(path, begin, end)
        names = self._names(path) if self._header == "each" else self._columns
        try:
            return self.records_in(data, names, is_whole=begin is None)
        except LineError as error:
            raise _load_error(path, begin, error, self._numbers) from error

    def records_in(self, data: bytes, names: list[Any] | None, *, is_whole: bool) -> Any:
        """
        Read records.

        :param is_whole: whether it is the entire file, which may have a header.
        :raises LineError: if one of them cannot be read.
        """
        has_header = is_whole and bool(self._header)
        try:
            return self.frame_of(data if is_whole else from_within(data), names, has_header=has_header)
        except MemoryError:
            raise
        except Exception as error:  # pandas raises whatever its parsers find
            text = bad_records.decode(data, self._arguments["encoding"], is_whole=is_whole)
            problem = self._problem(text, names, has_header=has_header)
            if problem is None:
                raise
            raise problem from error

    def _problem(self, text: str, names: list[Any] | None, *, has_header: bool) -> LineError | None:
        def read(part: str, dtypes: dict[Any, str]) -> Any:
            reader = DelimitedPieces({**self._options, "encoding": "utf-8", "dtypes": dtypes})
            return reader.frame_of(from_within(part.encode()), names, has_header=has_header)

        dtypes = self._options.get("dtypes") or {}
        found = bad_records.find(
            text,
            lambda part: read(part, dtypes),
            separator=self._arguments["sep"],
            comment=self._arguments["comment"],
            has_header=has_header,
        )
        return None if found is None else bad_records.problem_of(*found, read, self._dtypes)

    def frame_of(self, data: bytes, names: list[Any] | None, *, has_header: bool) -> Any:
        """
        Read records.

        :param names: the columns in the order of the records; None: they are unknown.
        :param has_header: whether the first record names the columns.
        """
        import pandas as pd

        arguments: dict[str, Any] = {
            "header": 0 if has_header else None,
            "names": names,
            "dtype": self._types_to_read(),
        }
        wanted = self._wanted(names)
        with warnings.catch_warnings():
            # Otherwise a first record that is too long would lose its end with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            if wanted:
                # With usecols there is no warning, and nothing is read where all records are short.
                if self._header and (has_header or self._may_be_long(data, len(arguments["names"]))):
                    self._read(data, nrows=1, **(arguments | {"dtype": object}))
                with suppress(pd.errors.ParserError):
                    return self._settled(self._read(data, usecols=wanted, **arguments))
            return self._settled(self._read(data, **arguments))

    def _read(self, data: bytes, **arguments: Any) -> Any:
        import pandas as pd

        return pd.read_csv(io.BytesIO(data), **arguments, **self._arguments, **_exact_floats(pd.__version__))

    def _may_be_long(self, data: bytes, columns: int) -> bool:
        """Whether the first record could have more values than there are columns; a look at it costs half a ms."""
        line = _FIRST_LINE.match(data)
        return (
            line is None
            or self._arguments["comment"] is not None
            or b'"' in line[0]
            or line[0].count(self._arguments["sep"].encode()) >= columns
        )

    def _types_to_read(self) -> dict[Any, Any]:
        types = {name: type_to_read(kind) for name, kind in self._dtypes.items()}
        return {name: kind for name, kind in types.items() if kind is not None}

    def names_in(self, file: Any) -> list[str]:
        """Read the header of a file that stands at its beginning."""
        import pandas as pd

        return [str(name) for name in pd.read_csv(file, nrows=0, **self._arguments).columns]

    def _names(self, path: str) -> list[str]:
        """Give the columns of a file that has its own header."""
        if path not in self._headers:
            if len(self._headers) >= KNOWN_HEADERS:
                self._headers.clear()
            with open(path, "rb") as file:
                self._headers[path] = self.names_in(unpacking.unpacked(file))
        return self._headers[path]

    def _wanted(self, names: list[Any] | None) -> list[int] | None:
        if self._chosen is None or names is None:
            return None
        return [position for position, name in enumerate(names) if name in self._chosen]

    def _settled(self, frame: Any) -> Any:
        """Give all columns that the input has, in its order, with the types for which pandas has no name."""
        columns = self._columns if self._chosen is None else self._chosen
        if columns is None:
            return frame
        absent = {name for name in columns if name not in frame.columns}
        if list(frame.columns) != columns:
            frame = frame.reindex(columns=columns)
        for name in columns:
            kind = self._dtypes.get(name)
            if kind is not None and (name in absent or is_made_later(kind)):
                frame[name] = as_type(frame[name], kind)
        return frame


class JsonLinesPieces:
    """
    Reads bytes of files with a JSON object a line.

    :param options: as JsonTable has them.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._make_frame = JsonTable(options)
        self._numbers = LineNumbers()

    def __call__(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:  # noqa: ARG002
        """Read the lines between two positions."""
        data = _read_whole(path) if begin is None else _read_bytes(path, begin, end)
        try:
            return self._make_frame(data, is_whole=begin is None)
        except LineError as error:
            raise _load_error(path, begin, error, self._numbers) from None

    def frame_of(self, data: bytes) -> Any:
        """Read lines from within a file."""
        return self._make_frame(data, is_whole=False)


class ParquetPieces:
    """
    Reads rows of Parquet files; a few files stay open, and a row group as long as later parts of it may be asked for.

    :param options: schema (what all rows are made like; None: each file is as it is), filter (None: all rows), dtypes
        (what missing values elsewhere make of columns: float64, object).
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._encoded: str | None = options.get("schema")
        self._filter = options.get("filter")
        self._dtypes = options.get("dtypes") or {}
        self._schema: Any = None
        self._categories: dict[str, Any] = {}
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._cut: tuple[str, int, Any] | None = None

    def __call__(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:
        """Read rows of a row group, or of the whole file."""
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
        for position, name in enumerate(self._schema.names[: len(frame.columns)]):  # an index is behind them
            if alike.are_rounded_inside(table.column(position)):
                exact = table.column(position).to_pandas(integer_object_nulls=True)
                frame.isetitem(position, exact.array)
            if self._dtypes.get(name) == "object":
                frame.isetitem(position, frame.iloc[:, position].astype(object))
        return frame

    def _row_group(self, path: str, row_group: int | None, begin: int | None, end: int | None) -> Any:
        """Read the wanted rows of a row group, and keep it unless this is its last part."""
        table = None
        if self._cut is not None and self._cut[:2] == (path, row_group):
            table = self._cut[2]
        self._cut = None  # before the next one takes its room
        if table is None:
            table = self._wanted(self._open(path), row_group)
        if row_group is not None and begin is not None and end is not None and end < len(table):
            self._cut = (path, row_group, table)
        return table

    def _wanted(self, file: Any, row_group: int | None) -> Any:
        """Read the columns of the schema and those of the filter, and leave out rows that are not wanted."""
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

        # What is read ahead would stay in memory as long as the file is open.
        return pyarrow.parquet.ParquetFile(path, pre_buffer=False)

    def _names_in(self, file: Any) -> list[str]:
        return list(file.schema_arrow.names)

    def _read(self, file: Any, row_group: int | None, columns: list[str]) -> Any:
        table = file.read(columns=columns) if row_group is None else file.read_row_group(row_group, columns=columns)
        # Where a name has a dot, pyarrow reads whatever begins with it, too.
        return table.select(columns)

    def _rows_before(self, file: Any, row_group: int | None) -> int:
        return sum(file.metadata.row_group(number).num_rows for number in range(row_group or 0))


class ArrowPieces(ParquetPieces):
    """Reads rows of Arrow and Feather files: record batches are their row groups."""

    def _make_open(self, path: str) -> ArrowFile:
        return ArrowFile(path)

    def _names_in(self, file: Any) -> list[str]:
        return list(file.schema.names)

    def _read(self, file: Any, row_group: int | None, columns: list[str]) -> Any:
        import pyarrow as pa

        names = self._names_in(file)
        reader = file.reader([names.index(name) for name in columns])
        whole = reader.read_all() if row_group is None else pa.Table.from_batches([reader.get_batch(row_group)])
        return whole.select(columns)

    def _rows_before(self, file: Any, row_group: int | None) -> int:
        reader = file.reader()
        return sum(reader.get_batch(number).num_rows for number in range(row_group or 0))


_READERS: dict[str, Callable[[dict[str, Any]], _Read]] = {
    "delimited": DelimitedPieces,
    "json_lines": JsonLinesPieces,
    "parquet": ParquetPieces,
    "arrow": ArrowPieces,
}


def _exact_floats(pandas_version: str) -> dict[str, Any]:
    numbers = tuple(int(part) for part in pandas_version.split(".")[:2])
    return {} if numbers >= EXACT_BY_DEFAULT else {"float_precision": "round_trip"}


def from_within(data: bytes) -> bytes:
    """Keep a byte order mark that records from within a file begin with: it is text there, and pandas would drop it."""
    return b"\n" + data if data.startswith(_MARKS) else data


_MARKS = (codecs.BOM_UTF8, "\ufeff".encode("gb18030"))


def _read_whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return bytes(unpacking.unpacked(file).read())


def _read_bytes(path: str, begin: int, end: int | None) -> bytes:
    with open(path, "rb") as file:
        file.seek(begin)
        data = file.read() if end is None else file.read(end - begin)
    if end is not None and len(data) < end - begin:
        raise LoadError(f"{_place(path, begin, end, None)}: the file ends at byte {begin + len(data)}")
    return data


def _join(frames: list[Any]) -> Any:
    """Put rows one after the other; what is no mere count of rows stays their index."""
    pandas = sys.modules["pandas"]
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    is_counted = isinstance(filled[0].index, pandas.RangeIndex)
    # Columns of pieces without a row have no type, and would spoil that of the others.
    frame = filled[0] if len(filled) == 1 else pandas.concat(filled, ignore_index=is_counted)
    if is_counted:
        frame.index = pandas.RangeIndex(len(frame))
    return frame


def _require_unchanged(paths: Iterable[str], versions: Iterable[str | None]) -> None:
    # Files of a mini-batch may be many, and pieces of one file, too.
    for path, version in dict.fromkeys(zip(paths, versions)):  # noqa: B905 - none where they are not known
        if version is None:
            continue
        try:
            change = find_change(path, version)
        except OSError as error:
            raise LoadError(
                f"{path}: the file that plan listed cannot be looked at: {error.strerror}; it must lie on storage that "
                "all nodes see, and stay there until the run is over"
            ) from error
        if change is not None:
            raise LoadError(
                f"{path}: the file has changed since it was planned: {change}; clear the plan task to start over"
            )


def _miscounted(pieces: list[list[Any]], rows: int, items: int) -> str:
    more = f" and {len(pieces) - 1} more" if len(pieces) > 1 else ""
    return (
        f"{_place(*pieces[0])}{more}: {rows} rows where the plan counted {items}: plan and the worker process read the "
        "same file differently. Let the environment have the versions of pandas and pyarrow that Airflow has; if it "
        "does, this is a fault of airflow_prs: please report it"
    )


def _load_error(path: str, begin: int | None, error: LineError, numbers: LineNumbers) -> LoadError:
    number = error.number if begin is None else numbers.at(path, begin) + error.number - 1
    return LoadError(f"{path}: line {number} {error.problem}")


def _place(path: str, begin: int | None, end: int | None, row_group: int | None) -> str:
    """Name a piece in words."""
    if begin is None and row_group is None:
        return path
    unit = "bytes" if row_group is None else f"row group {row_group}"
    extent = "" if begin is None else f" {begin} to {end}" if row_group is None else f", rows {begin} to {end}"
    return f"{path} ({unit}{extent})"
