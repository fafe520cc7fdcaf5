"""Pieces of files as the argument of run(): a list of paths, or a DataFrame whose index is 0 to n-1."""

from __future__ import annotations

import io
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

OPEN_FILES = 4
"""Parquet files kept open, as consecutive mini-batches mostly come from the same one."""

EXACT_BY_DEFAULT = (3, 1)
"""From this pandas on floats are parsed exactly without a word, and saying so is deprecated."""


class LoadError(Exception):
    """A mini-batch cannot be read; the message begins with the file."""


def make_reader(spec: dict[str, Any]) -> FilesReader | TableReader:
    """
    Make the reader of an input.

    :param spec: its ``kind`` and ``options``.
    """
    if spec["kind"] == "files":
        return FilesReader()
    return TableReader(ParquetPieces() if spec["kind"] == "parquet" else DelimitedPieces(spec["options"]))


class FilesReader:
    """Hands the paths on as they are."""

    is_table = False

    def load(self, pieces: list[str], items: int) -> list[str]:  # noqa: ARG002 - as TableReader has it
        """Give run() a list of its own."""
        return list(pieces)


class TableReader:
    """
    Puts the rows of pieces one after the other.

    :param read: reads one piece, given as path, begin, end and row group.
    """

    is_table = True

    def __init__(self, read: Callable[[str, int | None, int | None, int | None], Any]) -> None:
        self._read = read

    def load(self, pieces: list[list[Any]], items: int) -> Any:
        """
        Read the rows of a mini-batch.

        :param pieces: path, begin, end and row group of each.
        :param items: the number of rows that the plan counted.
        :raises LoadError: if a piece cannot be read or there are more or fewer rows.
        """
        frames = [self._load_piece(*piece) for piece in pieces]
        frame = _join(frames)
        if len(frame) != items:
            more = f" and {len(pieces) - 1} more" if len(pieces) > 1 else ""
            raise LoadError(
                f"{_place(*pieces[0])}{more}: {len(frame)} rows where the plan counted {items}; "
                "the file has changed since it was planned: clear the plan task to start over"
            )
        return frame

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

    :param options: separator, header, encoding, columns (None: numbered), dtypes (None: as pandas infers them).
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._has_header = options.get("header", True)
        self._arguments: dict[str, Any] = {
            "sep": options.get("separator", ","),
            "encoding": options.get("encoding", "utf-8"),
            "names": options.get("columns"),
            "dtype": options.get("dtypes"),
            "index_col": False,
            "low_memory": False,
        }

    def __call__(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:  # noqa: ARG002
        """Read the records between two positions; a whole file may have a header."""
        import pandas as pd

        header = 0 if begin is None and self._has_header else None
        data = _read_bytes(path, begin or 0, end)
        with warnings.catch_warnings():
            # Otherwise a first row that is too long would lose its end with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(io.BytesIO(data), header=header, **self._arguments, **_exact_floats(pd.__version__))


class ParquetPieces:
    """Reads rows of Parquet files; a few files stay open, and the row group of which only a part was asked for."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._cut: tuple[str, int, Any] | None = None

    def __call__(self, path: str, begin: int | None, end: int | None, row_group: int | None) -> Any:
        """Read rows of a row group, or of the whole file."""
        table = (
            self._open(path).read() if row_group is None else self._row_group(path, row_group, is_cut=begin is not None)
        )
        if begin is not None:
            table = table.slice(begin, None if end is None else end - begin)
        return _named_index_as_columns(table.to_pandas())

    def _row_group(self, path: str, row_group: int, *, is_cut: bool) -> Any:
        if self._cut is not None and self._cut[:2] == (path, row_group):
            return self._cut[2]
        self._cut = None  # before the next one takes its room
        table = self._open(path).read_row_group(row_group)
        if is_cut:
            self._cut = (path, row_group, table)
        return table

    def _open(self, path: str) -> Any:
        import pyarrow.parquet

        if path not in self._files:
            while len(self._files) >= OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._files[path] = pyarrow.parquet.ParquetFile(path)
        self._files.move_to_end(path)
        return self._files[path]


def _exact_floats(pandas_version: str) -> dict[str, Any]:
    numbers = tuple(int(part) for part in pandas_version.split(".")[:2])
    return {} if numbers >= EXACT_BY_DEFAULT else {"float_precision": "round_trip"}


def _read_bytes(path: str, begin: int, end: int | None) -> bytes:
    with open(path, "rb") as file:
        file.seek(begin)
        data = file.read() if end is None else file.read(end - begin)
    if end is not None and len(data) < end - begin:
        raise LoadError(
            f"{_place(path, begin, end, None)}: the file ends at byte {begin + len(data)}; "
            "it has changed since it was planned: clear the plan task to start over"
        )
    return data


def _named_index_as_columns(frame: Any) -> Any:
    """Keep what pandas had stored as a named index; an index without a name says nothing about the rows."""
    names = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=names) if names else frame


def _join(frames: list[Any]) -> Any:
    pandas = sys.modules["pandas"]
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    # Columns of pieces without a row have no type, and would spoil that of the others.
    frame = filled[0] if len(filled) == 1 else pandas.concat(filled, ignore_index=True)
    frame.index = pandas.RangeIndex(len(frame))
    return frame


def _place(path: str, begin: int | None, end: int | None, row_group: int | None) -> str:
    """Name a piece in words."""
    if begin is None and row_group is None:
        return path
    unit = "bytes" if row_group is None else f"row group {row_group}"
    extent = "" if begin is None else f" {begin} to {end}" if row_group is None else f", rows {begin} to {end}"
    return f"{path} ({unit}{extent})"
