"""Delimited files: read once, to count their records and cut between them."""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.plan.cutting import Cut, RecordCutter
from airflow_prs.plan.scanning import UnclosedQuoteError, record_starts

_UTF8_MARK = codecs.BOM_UTF8
_UNREADABLE = {
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "compressed with zip",
    b"BZh91AY&SY": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    codecs.BOM_UTF16_LE: "in UTF-16 or UTF-32",
    codecs.BOM_UTF16_BE: "in UTF-16 or UTF-32",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the files of an input are written."""

    separator: str
    encoding: str
    has_header: bool


@dataclass(slots=True)
class _Columns:
    """
    The columns that all files must share.

    :param names: of the first file; None before it.
    :param path: the first file.
    """

    names: list[str] | None = None
    path: str = ""
    known: dict[bytes, list[str]] = field(default_factory=dict)


def cut_delimited_files(
    name: str, paths: Sequence[str], dialect: Dialect, size: int, *, is_bytes: bool
) -> tuple[Cut, list[str] | None]:
    """
    Cut delimited files into mini-batches.

    :param name: of the input.
    :param size: bytes or records of a mini-batch.
    :param is_bytes: whether size is in bytes.
    :return: the mini-batches, and the names of the columns; None without a header.
    :raises InputError: if a file cannot be read or has other columns than the first one.
    :raises ConfigError: if the dialect cannot be cut.
    """
    _require_ascii(name, dialect)
    cut = Cut(name, paths)
    columns = _Columns()
    for file, path in enumerate(paths):
        try:
            header, pieces = _cut_file(path, dialect, RecordCutter(size, is_bytes=is_bytes))
        except OSError as error:
            raise InputError(f"{path!r} cannot be read: {error.strerror}") from error
        if header:
            _compare(columns, path, header, dialect)
        for begin, end, records in pieces:
            cut.add_piece(file, items=records, size_bytes=end - begin, span=(begin, end))
            cut.close_mini_batch()
    return cut, columns.names


def _cut_file(path: str, dialect: Dialect, cutter: RecordCutter) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Give a file's header, without the records, and its pieces."""
    with Path(path).open("rb") as file:
        _skip_mark(file, path, dialect)
        header_start = None
        try:
            for starts in record_starts(file, ord(dialect.separator)):
                records = starts
                if dialect.has_header and header_start is None and len(starts):
                    header_start, records = int(starts[0]), starts[1:]
                cutter.feed(records)
        except UnclosedQuoteError:
            raise InputError(f"{path!r} ends inside a quoted field: a closing quote is missing somewhere.") from None
        end = file.tell()
        pieces = cutter.finish(end)
        if header_start is None:
            return b"", pieces
        file.seek(header_start)
        return file.read((pieces[0][0] if pieces else end) - header_start), pieces


def _skip_mark(file: IO[bytes], path: str, dialect: Dialect) -> None:
    """Go past a byte order mark, which belongs to no record."""
    begin = file.read(16)
    for magic, what in _UNREADABLE.items():
        if begin.startswith(magic):
            raise InputError(f"{path!r} is {what}, which is not supported yet for delimited files.")
    is_utf8 = codecs.lookup(dialect.encoding).name.startswith("utf-8")
    file.seek(len(_UTF8_MARK) if is_utf8 and begin.startswith(_UTF8_MARK) else 0)


def _compare(columns: _Columns, path: str, header: bytes, dialect: Dialect) -> None:
    line = header.rstrip(b"\r\n")
    if line not in columns.known:
        columns.known[line] = _column_names(path, line, dialect)
    names = columns.known[line]
    if columns.names is None:
        columns.names, columns.path = names, path
    elif columns.names != names:
        raise InputError(
            f"{path!r} has the columns {names}, but {columns.path!r} has {columns.names}; "
            "all files of an input must have the same columns in the same order."
        )


def _column_names(path: str, header: bytes, dialect: Dialect) -> list[str]:
    """Name the columns as pandas does, which tells doubled and empty names apart."""
    import pandas as pd

    try:
        frame = pd.read_csv(
            io.BytesIO(header), sep=dialect.separator, encoding=dialect.encoding, nrows=0, index_col=False
        )
    except ValueError as error:  # a letter that is not of this encoding, or what pandas cannot parse
        raise InputError(f"the header of {path!r} cannot be read (encoding {dialect.encoding!r}): {error}") from error
    return [str(name) for name in frame.columns]


def _require_ascii(name: str, dialect: Dialect) -> None:
    """Records are found by their bytes, so quotes, separators and line breaks must be those of ASCII."""
    if not dialect.separator.isascii():
        raise ConfigError([f"separator of {name!r} is {dialect.separator!r}; allowed for now: an ASCII character"])
    codec = codecs.lookup(dialect.encoding).name
    try:
        is_ascii = bytes(range(128)).decode(codec)[: ord("0")] == bytes(range(ord("0"))).decode("ascii")
    except (LookupError, ValueError):
        is_ascii = False
    if not is_ascii or codec.startswith("iso2022"):
        raise InputError(
            f"the encoding {dialect.encoding!r} of {name!r} is not supported yet for delimited files, as its line "
            "breaks and quotes are not those of ASCII; convert the files to UTF-8."
        )
