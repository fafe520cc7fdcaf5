"""What plan cuts: one plain record for each format, which a dataset makes of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from airflow_prs.records import InputKind
from airflow_prs.worker.values import encode


@dataclass(frozen=True, slots=True)
class MiniBatchSize:
    """
    How much a mini-batch holds.

    :param count: how many of the unit.
    :param unit: ``items`` where no unit was given: files of a FileDataset, bytes of a TabularDataset.
    """

    count: int
    unit: Literal["items", "bytes", "rows"]

    @property
    def is_bytes(self) -> bool:
        """Whether a mini-batch of a table is measured in bytes."""
        return self.unit != "rows"


class RecordLimit(NamedTuple):
    """
    How large a record of a text file may be.

    :param size_bytes: the limit.
    :param written: as the author wrote it, for errors.
    """

    size_bytes: int
    written: int | str


DEFAULT_RECORD_LIMIT = RecordLimit(64 * 1024**2, "64MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Files that are one input.

    :param name: of the input.
    :param paths: files, folders and patterns.
    :param partition_format: how the end of each path is read; None: keys may be in folders named ``key=value``.
    """

    kind: ClassVar[InputKind]

    name: str
    paths: tuple[str, ...]
    partition_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource(Source):
    """Files, each of which is one item."""

    kind = InputKind.FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSource(Source):
    """
    Files with rows, each of which is one item.

    :param columns: the columns that run() gets, in this order; None: all.
    :param dropped: columns that are left out where none are chosen.
    :param dtypes: types of columns, by name; the others are as pandas finds them.
    :param partitioned_by: columns by whose values plan writes a copy, which is then processed; None: there is none.
    :param target: folder of that copy; None: one in the run folder.
    """

    columns: tuple[Any, ...] | None = None
    dropped: tuple[str, ...] | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] | None = None
    target: str | None = None

    def options(self) -> dict[str, Any]:
        """Return what a worker process needs to read the files, apart from their columns."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DelimitedSource(TableSource):
    """
    Files of delimited text.

    :param separator: one ASCII character.
    :param header: whether the first record of each file names the columns; "each": they differ.
    :param encoding: of the files.
    :param comment: character that begins a comment.
    :param max_record_size: a larger record is an error.
    """

    kind = InputKind.DELIMITED

    separator: str = ","
    header: bool | str = True
    encoding: str = "utf-8"
    comment: str | None = None
    max_record_size: RecordLimit = DEFAULT_RECORD_LIMIT

    def options(self) -> dict[str, Any]:
        """Return what a worker process needs to read the files, apart from their columns."""
        return {
            "separator": self.separator,
            "header": self.header,
            "encoding": self.encoding,
            "comment": self.comment,
        }

    def pandas_arguments(self, encoding: str) -> dict[str, Any]:
        """
        Return arguments for pandas.read_csv.

        :param encoding: of the bytes that it reads, which may have been decoded already.
        """
        return {"sep": self.separator, "encoding": encoding, "comment": self.comment}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLinesSource(TableSource):
    """
    Files with a JSON object a line.

    :param encoding: of the files.
    :param max_record_size: a larger line is an error.
    """

    kind = InputKind.JSON_LINES

    encoding: str = "utf-8"
    max_record_size: RecordLimit = DEFAULT_RECORD_LIMIT

    def options(self) -> dict[str, Any]:
        """Return what a worker process needs to read the files, apart from their columns."""
        return {"encoding": self.encoding}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSource(TableSource):
    """
    Parquet files.

    :param filter: conditions that the wanted rows fulfil; None: all are wanted.
    """

    kind = InputKind.PARQUET

    filter: Sequence[Any] | None = None

    def options(self) -> dict[str, Any]:
        """Return what a worker process needs to read the files, apart from their columns."""
        return {"filter": encode(self.filter)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowSource(TableSource):
    """Arrow files, Feather files (version 2) among them."""

    kind = InputKind.ARROW
