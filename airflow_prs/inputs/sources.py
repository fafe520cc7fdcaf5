"""The records that plan cuts: a plain record for each format, made by ``to_source()`` of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from airflow_prs.records import InputKind
from airflow_prs.worker.values import encode


@dataclass(frozen=True, slots=True)
class MiniBatchSize:
    """
    The size of a mini-batch.

    :param count: number of units.
    :param unit: None if the author wrote no unit: files of a FileDataset, bytes of a TabularDataset.
    """

    count: int
    unit: Literal["bytes", "rows"] | None = None

    @property
    def is_bytes(self) -> bool:
        """Return whether a mini-batch of a table is measured in bytes."""
        return self.unit != "rows"


class RecordLimit(NamedTuple):
    """
    The largest size of a record of a text file.

    :param size_bytes: the limit.
    :param written: the limit as the author wrote it, for errors.
    """

    size_bytes: int
    written: int | str


DEFAULT_RECORD_LIMIT = RecordLimit(64 * 1024**2, "64MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    The files of one input.

    :param name: name of the input.
    :param paths: files, folders and patterns.
    :param partition_format: format of the end of each path; None: keys may be in folders named ``key=value``.
    """

    kind: ClassVar[InputKind]

    name: str
    paths: tuple[str, ...]
    partition_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource(Source):
    """
    Files, each of which is one item.

    :param is_direct: whether run() gets addresses on object storage, and not local copies.
    """

    kind = InputKind.FILES

    is_direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSource(Source):
    """
    Files with rows, each of which is one item.

    :param columns: the columns that run() gets, in this order; None: all.
    :param dropped: columns to leave out, if ``columns`` is None.
    :param dtypes: types of columns, by name; pandas finds the types of the others.
    :param partitioned_by: columns by whose values plan writes a partitioned copy, which is processed instead of the
        files; None: no copy.
    :param target: folder of that copy; None: a folder in the run folder.
    """

    columns: tuple[Any, ...] | None = None
    dropped: tuple[str, ...] | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] | None = None
    target: str | None = None

    def options(self) -> dict[str, Any]:
        """Return the options with which a worker process reads the files, without those of the columns."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DelimitedSource(TableSource):
    """
    Files of delimited text.

    :param separator: one ASCII character.
    :param header: whether the first record of each file names the columns; "each": the files have different columns.
    :param encoding: encoding of the files.
    :param comment: character that begins a comment.
    :param max_record_size: limit of a record; a larger one is an error.
    """

    kind = InputKind.DELIMITED

    separator: str = ","
    header: bool | str = True
    encoding: str = "utf-8"
    comment: str | None = None
    max_record_size: RecordLimit = DEFAULT_RECORD_LIMIT

    def options(self) -> dict[str, Any]:
        """Return the options with which a worker process reads the files, without those of the columns."""
        return {
            "separator": self.separator,
            "header": self.header,
            "encoding": self.encoding,
            "comment": self.comment,
        }

    def pandas_arguments(self, encoding: str) -> dict[str, Any]:
        """
        Return arguments for pandas.read_csv.

        :param encoding: encoding of the bytes that pandas reads; not that of the file if they were recoded.
        """
        return {"sep": self.separator, "encoding": encoding, "comment": self.comment}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLinesSource(TableSource):
    """
    Files with a JSON object on each line.

    :param encoding: encoding of the files.
    :param max_record_size: limit of a line; a larger one is an error.
    """

    kind = InputKind.JSON_LINES

    encoding: str = "utf-8"
    max_record_size: RecordLimit = DEFAULT_RECORD_LIMIT

    def options(self) -> dict[str, Any]:
        """Return the options with which a worker process reads the files, without those of the columns."""
        return {"encoding": self.encoding}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSource(TableSource):
    """
    Parquet files.

    :param filter: conditions that the wanted rows fulfil; None: all rows are wanted.
    """

    kind = InputKind.PARQUET

    filter: Sequence[Any] | None = None

    def options(self) -> dict[str, Any]:
        """Return the options with which a worker process reads the files, without those of the columns."""
        return {"filter": encode(self.filter)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowSource(TableSource):
    """Arrow files, Feather files (version 2) among them."""

    kind = InputKind.ARROW
