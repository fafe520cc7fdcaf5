"""Pieces of text files, delimited or with a JSON object per line, as DataFrames."""

from __future__ import annotations

import codecs
import io
import re
import warnings
from contextlib import suppress
from typing import Any

from . import bad_records, unpacking  # noqa: TID252 - this package has another name in a worker process
from .dtypes import as_type, is_made_later, text_type, type_to_read  # noqa: TID252
from .json_table import JsonTable  # noqa: TID252
from .lines import LineError, LineNumbers, breaks_in, decode  # noqa: TID252
from .load_errors import LoadError, name_piece  # noqa: TID252
from .stretch import Stretch  # noqa: TID252

EXACT_BY_DEFAULT = (3, 1)
"""From this version of pandas on floats are parsed exactly by default, and the option for it is deprecated."""

KNOWN_HEADERS = 1000
"""How many headers of files are kept in memory, where each file has its own."""

_BLOCK_BYTES = 64 * 1024

_FIRST_LINE = re.compile(rb"\s*[^\r\n]*")


class DelimitedPieces:
    """
    Reads ranges of bytes of delimited files; a range holds complete records only.

    :param options: ``separator``; ``header`` (True, False, or "each": the header differs from file to file);
        ``encoding``; ``comment``; ``columns`` (all columns, numbers if there is no header; None: not known); ``chosen``
        (columns that run() gets; None: all); ``dtypes`` (None: pandas infers them).
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._header = options.get("header", True)
        self._columns = options.get("columns")
        self._chosen = options.get("chosen")
        dtypes = options.get("dtypes") or {}
        typed = self._chosen or self._columns or dtypes
        self._dtypes = {name: dtypes[str(name)] for name in typed if str(name) in dtypes}
        self._found: set[Any] | None = None
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

    def __call__(
        self,
        path: str,
        begin: int | None,
        end: int | None,
        row_group: int | None,  # noqa: ARG002 - same signature as for Parquet
        *,
        is_partial: bool = False,
    ) -> Any:
        """Return the records between two positions; only an entire file may have a header."""
        names = self._names(path) if self._header == "each" else self._columns
        with io.BytesIO(_read_whole(path)) if begin is None else Stretch(path, begin, end) as file:
            try:
                return self.records_in(file, names, is_whole=begin is None)
            except LineError as error:
                raise _load_error(path, begin, end, error, None if is_partial else self._numbers) from error

    def records_in(self, file: io.BytesIO | Stretch, names: list[Any] | None, *, is_whole: bool) -> Any:
        """
        Return records as a DataFrame.

        :param file: the records.
        :param names: the columns in the order of the records; None: they are not known.
        :param is_whole: whether they are an entire file, which may have a header.
        :raises LineError: if a record cannot be read.
        """
        has_header = is_whole and bool(self._header)
        try:
            if not is_whole and file.read(_LONGEST_MARK).startswith(_MARKS):
                return self.frame_of(io.BytesIO(from_within(_all_of(file))), names, has_header=has_header)
            return self.frame_of(file, names, has_header=has_header)
        except MemoryError:
            raise
        except Exception as error:  # the parsers of pandas raise exceptions of any type
            text = decode(_all_of(file), self._arguments["encoding"], breaks_in, is_whole=is_whole)
            problem = self._problem(text, names, has_header=has_header)
            if problem is None:
                raise
            raise problem from error

    def _problem(self, text: str, names: list[Any] | None, *, has_header: bool) -> LineError | None:
        def read(part: str, dtypes: dict[Any, str]) -> Any:
            reader = DelimitedPieces({**self._options, "encoding": "utf-8", "dtypes": dtypes})
            return reader.frame_of(io.BytesIO(from_within(part.encode())), names, has_header=has_header)

        dtypes = self._options.get("dtypes") or {}
        found = bad_records.find(
            text,
            lambda part: read(part, dtypes),
            separator=self._arguments["sep"],
            comment=self._arguments["comment"],
            has_header=has_header,
        )
        return None if found is None else bad_records.problem_of(*found, read, self._dtypes)

    def frame_of(self, file: io.BytesIO | Stretch, names: list[Any] | None, *, has_header: bool) -> Any:
        """
        Return records as a DataFrame.

        :param file: the records.
        :param names: the columns in the order of the records; None: they are not known.
        :param has_header: whether the first record names the columns.
        """
        import pandas as pd

        arguments: dict[str, Any] = {"header": 0 if has_header else None, "names": names}
        wanted = self._wanted(names)
        with warnings.catch_warnings():
            # By default pandas only warns when it drops values of a first record that is too long.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            if wanted:
                # With usecols pandas does not warn about long records, and fails if all records are short.
                if self._header and (has_header or self._may_be_long(file, len(arguments["names"]))):
                    self._read(file, nrows=1, dtype=object, **arguments)
                with suppress(pd.errors.ParserError):
                    return self._completed(self._read_typed(file, usecols=wanted, **arguments))
            return self._completed(self._read_typed(file, **arguments))

    def _read_typed(self, file: io.BytesIO | Stretch, **arguments: Any) -> Any:
        """
        Read records with the types of the columns.

        pandas is faster with text that it finds than with text that it is told to make. If it finds another type in
        a column, the records are read again, and the type of this column is always told from then on.
        """
        types = self._types_to_read()
        if self._found is None:
            self._found = set() if text_type() is object else {name for name, kind in types.items() if kind == "str"}
        frame = self._read(
            file, dtype={name: kind for name, kind in types.items() if name not in self._found}, **arguments
        )
        wrong = {name for name in self._found if name in frame.columns and not _is_text(frame[name])}
        if not wrong:
            return frame
        self._found -= wrong
        return self._read(file, dtype=types, **arguments)

    def _read(self, file: io.BytesIO | Stretch, **arguments: Any) -> Any:
        import pandas as pd

        file.seek(0)
        return pd.read_csv(file, **arguments, **self._arguments, **_exact_floats(pd.__version__))

    def _may_be_long(self, file: io.BytesIO | Stretch, columns: int) -> bool:
        """Whether the first record may have more values than there are columns; parsing it takes half a ms."""
        file.seek(0)
        block = file.read(_BLOCK_BYTES)
        line = _FIRST_LINE.match(block)
        return (
            line is None
            or line.end() == _BLOCK_BYTES
            or self._arguments["comment"] is not None
            or b'"' in line[0]
            or line[0].count(self._arguments["sep"].encode()) >= columns
        )

    def _types_to_read(self) -> dict[Any, Any]:
        types = {name: type_to_read(kind) for name, kind in self._dtypes.items()}
        return {name: kind for name, kind in types.items() if kind is not None}

    def names_in(self, file: Any) -> list[str]:
        """Return the columns that the header of a file names; the file is at its beginning."""
        import pandas as pd

        return [str(name) for name in pd.read_csv(file, nrows=0, **self._arguments).columns]

    def _names(self, path: str) -> list[str]:
        """Return the columns of a file that has its own header."""
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

    def _completed(self, frame: Any) -> Any:
        """Return a frame with all columns of the input, in order; types that pandas cannot read are made here."""
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
    Reads ranges of bytes of files with a JSON object per line.

    :param options: those of JsonTable.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._make_frame = JsonTable(options)
        self._numbers = LineNumbers()

    def __call__(
        self,
        path: str,
        begin: int | None,
        end: int | None,
        row_group: int | None,  # noqa: ARG002 - same signature as for Parquet
        *,
        is_partial: bool = False,
    ) -> Any:
        """Return the lines between two positions as a DataFrame."""
        if begin is None:
            data = _read_whole(path)
        else:
            with Stretch(path, begin, end) as file:
                data = file.read()
        try:
            return self._make_frame(data, is_whole=begin is None)
        except LineError as error:
            raise _load_error(path, begin, end, error, None if is_partial else self._numbers) from None

    def frame_of(self, data: bytes) -> Any:
        """Return lines from within a file as a DataFrame."""
        return self._make_frame(data, is_whole=False)


def _is_text(column: Any) -> bool:
    # If all values are integers that only uint64 can hold, pandas makes empty text of missing values.
    return bool(column.dtype == text_type() and not (column == "").any())


def _exact_floats(pandas_version: str) -> dict[str, Any]:
    numbers = tuple(int(part) for part in pandas_version.split(".")[:2])
    return {} if numbers >= EXACT_BY_DEFAULT else {"float_precision": "round_trip"}


def from_within(data: bytes) -> bytes:
    """Return data that pandas reads entirely: a byte order mark within a file is text, which pandas would drop."""
    return b"\n" + data if data.startswith(_MARKS) else data


_MARKS = (codecs.BOM_UTF8, "\ufeff".encode("gb18030"))
_LONGEST_MARK = max(map(len, _MARKS))


def _all_of(file: io.BytesIO | Stretch) -> bytes:
    file.seek(0)
    return file.read()


def _read_whole(path: str) -> bytes:
    """Return the content of a file, which may be compressed."""
    with open(path, "rb") as file:
        return bytes(unpacking.unpacked(file).read())


def _load_error(
    path: str, begin: int | None, end: int | None, error: LineError, numbers: LineNumbers | None
) -> LoadError:
    """
    Return the error for a line.

    :param numbers: finds the numbers of lines; None: the lines before are not there to be counted.
    """
    if begin is not None and numbers is None:
        return LoadError(f"{name_piece(path, begin, end, None)}: line {error.number} of these {error.problem}")
    number = error.number if begin is None or numbers is None else numbers.at(path, begin) + error.number - 1
    return LoadError(f"{path}: line {number} {error.problem}")
