"""Delimited files: read once, to count their records, cut between them, and infer the types of the columns."""

from __future__ import annotations

import io
from contextlib import closing
from functools import partial
from typing import Any

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.inputs.columns import Columns, Names, require_known, require_types
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize
from airflow_prs.inputs.text.column_types import ColumnTypes
from airflow_prs.inputs.text.cutting import RecordCutter
from airflow_prs.inputs.text.opening import OpenText, open_text
from airflow_prs.inputs.text.records import BLOCK_BYTES, Records, add_pieces, complete_records, marks_of
from airflow_prs.worker.reading.text_pieces import DelimitedPieces, from_within


def cut_delimited_files(
    source: DelimitedSource, listing: Listing, size: MiniBatchSize, *, block_bytes: int = BLOCK_BYTES
) -> tuple[TableCut, Columns]:
    """
    Cut delimited files into mini-batches.

    A compressed file, or one in an encoding that is not like ASCII, is one mini-batch.

    :param size: bytes or records of a mini-batch.
    :param block_bytes: approximate size of the text from which types are inferred in one step.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read, its columns differ from those of the first file, or no file has a
        column that ``dtypes`` names.
    :raises ConfigError: if the separator or comment is not ASCII, or pandas cannot read a type of ``dtypes``.
    """
    _require_ascii(source)
    require_types(source.name, source.dtypes, _read_value)
    cut = TableCut(source.name, listing.paths)
    columns = _Headers(source)
    with ColumnTypes(source.pandas_arguments, source.dtypes) as types, closing(listing.files()) as files:
        for number, file in enumerate(files):
            with open_text(file, source.encoding, marks_of(source.separator, source.comment)) as text:
                cutter = RecordCutter(size.count, is_bytes=size.is_bytes)
                end = _read(file.path, text, columns, cutter, types, block_bytes=block_bytes)
                add_pieces(cut, number, cutter.finish(end), cutter.lines, is_whole=text.is_whole)
        found = types.types()
    require_known(source.name, source.dtypes, columns.names)
    return cut, Columns(columns.names, found | dict(source.dtypes))


def _read(
    path: str, text: OpenText, headers: _Headers, cutter: RecordCutter, types: ColumnTypes, *, block_bytes: int
) -> int:
    """Read a file once, and return the position of its end."""
    names: Names | None = None
    end = 0
    for records in complete_records(
        text,
        headers.source.separator,
        comment=headers.source.comment,
        max_record_size=headers.source.max_record_size,
        block_bytes=block_bytes,
    ):
        rows, end = records, records.end
        if names is None:
            first, others = records.split()
            names = headers.read(path, first, text.encoding)
            rows = others if headers.source.header else records
        cutter.feed(rows.starts, b"" if text.is_whole else records.text, end)
        if len(rows.starts):
            types.feed(partial(_text_of, rows), names, text.encoding, is_plain=rows.is_plain)
    return end


def _read_value(value: str, dtype: str) -> object:
    reader = DelimitedPieces({"columns": ["a"], "dtypes": {"a": dtype}})
    return reader.frame_of(io.BytesIO(value.encode()), ["a"], has_header=False)


def _text_of(records: Records) -> bytes:
    return from_within(records.text)


class _Headers:
    """
    The columns of the files that were read so far.

    :ivar names: the columns of the first file, or of all files if they may differ.
    """

    def __init__(self, source: DelimitedSource) -> None:
        self.source = source
        self.names: Names | None = None
        self._path = ""
        self._known: dict[tuple[bytes, str], list[str]] = {}

    def read(self, path: str, first: bytes, encoding: str) -> Names:
        """
        Return the columns of a file.

        :param first: first record of the file.
        :raises InputError: if they differ from those of the first file, but must not.
        """
        if not self.source.header:
            if self.names is None:
                self.names = range(_width(path, first, self.source, encoding))
            return self.names
        line = first.rstrip(b"\r\n"), encoding
        if line not in self._known:
            self._known[line] = _column_names(path, *line, self.source)
        names = self._known[line]
        self._add(path, names)
        return names

    def _add(self, path: str, names: list[str]) -> None:
        if self.names is None:
            self.names, self._path = names, path
        elif self.source.header == "each":
            self.names = [*self.names, *(name for name in names if name not in self.names)]
        elif self.names != names:
            raise InputError(
                f"{path!r} has the columns {names}, but {self._path!r} has {self.names}; all files of an input must "
                "have the same columns in the same order. header='each' allows each file its own columns."
            )


def _column_names(path: str, header: bytes, encoding: str, source: DelimitedSource) -> list[str]:
    """Return the columns as pandas names them; it renames repeated and empty names."""
    return [str(name) for name in _read_record(path, header, source, encoding, header=0, nrows=0).columns]


def _width(path: str, first: bytes, source: DelimitedSource, encoding: str) -> int:
    return len(_read_record(path, first, source, encoding, header=None).columns)


def _read_record(path: str, record: bytes, source: DelimitedSource, encoding: str, **arguments: Any) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(io.BytesIO(record), index_col=False, **source.pandas_arguments(encoding), **arguments)
    except ValueError as error:  # invalid in this encoding, or for pandas' parser
        raise InputError(f"the header of {path!r} cannot be read (encoding {encoding!r}): {error}") from error


def _require_ascii(source: DelimitedSource) -> None:
    """Raise ConfigError if the separator or comment is not ASCII: records are found by single bytes."""
    for option, value in (("separator", source.separator), ("comment", source.comment or "#")):
        if not value.isascii():
            raise ConfigError([f"{option} of {source.name!r} is {value!r}; allowed: an ASCII character"])
