"""FileDataset and TabularDataset: what is to be processed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from airflow_prs.config.dataset_paths import (
    fill_in_path,
    normalize_path,
    normalize_target,
    promote_path,
    promote_target,
)
from airflow_prs.config.declaring import declared, declares
from airflow_prs.config.mltable import read_mltable
from airflow_prs.config.parameters import Promotion, fill_in, find_parameters
from airflow_prs.config.row_filters import filter_problems
from airflow_prs.config.sizes import MAX_RECORD_SIZE, record_limit, record_size_problems
from airflow_prs.config.table_options import (
    columns_problems,
    delimited_problems,
    dtypes_problems,
    encoding_problems,
    partition_by_problems,
    query_problems,
)
from airflow_prs.errors import ConfigError
from airflow_prs.inputs.sources import (
    ArrowSource,
    DelimitedSource,
    FileSource,
    JsonLinesSource,
    ParquetSource,
    TableSource,
)
from airflow_prs.records import DIRECT, InputKind
from airflow_prs.wording import wrong
from airflow_prs.worker.values import decode, encode

NAME_ALLOWED = "letters, digits, '-', '_' and '.', at most 200, neither '-' nor '.' first"

DOWNLOAD: Final = "download"

_ALWAYS_TOLD = frozenset({"path", "partition_format", "name"})

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
"""Those of registered models; plan makes folders of these names."""
_KEY = re.compile(r"\{([^{}:]*)(?::[^{}]*)?\}")


@declared
@dataclass(frozen=True, slots=True, repr=False)
class FileDataset:
    """
    Files, each of which is one item.

    :param path: a file, a folder (with all that is below it), a pattern (``**`` too), or a list of them; what another
        task returned or a PipelineParameter may stand in place of each. Relative paths begin at the DAG file's folder.
    :param partition_format: how the end of each path is to be read, such as ``/{user}/{day:yyyy/MM/dd}/data.json``.
    :param name: given by ``as_named_input``.
    :param mode: what run() gets of files on object storage: "download": the paths of local copies, which the node makes
        ahead of need and removes after use; "direct": their addresses without the connection, such as
        ``s3://bucket/key``, for a script that reads them with credentials of its own.
    :param only_new: whether to leave out the files that an earlier completed run of the task has processed.
    """

    path: Any
    partition_format: str | None = None
    name: str | None = field(default=None, kw_only=True)
    mode: Literal["download", "direct"] = field(default=DOWNLOAD, kw_only=True)
    only_new: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        path, problems = normalize_path(self.path)
        problems = [*_common_problems(self), *problems]
        if self.mode not in (DOWNLOAD, DIRECT):
            problems.append(wrong("mode", self.mode, "'download' (local copies) or 'direct' (addresses)"))
        problems += _only_new_problems(self)
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "path", path)

    @declares
    def as_named_input(self, name: str) -> FileDataset:
        """Return the same dataset with a name."""
        return replace(self, name=_require_name(name))

    def get_partition_key_values(self, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """
        Return the different combinations of key values, in the order of the mini-batches.

        The files are listed, but not read. Relative paths start from the working directory.

        :param keys: some of the keys; None: all.
        :return: a dict of key to value for each combination; a value is text, a datetime, or None.
        :raises ConfigError: if there is no such key, or the path is known only in a run.
        :raises InputError: if the files cannot be listed.
        """
        return _partition_key_values(self, keys)

    def to_spec(self) -> dict[str, Any]:
        """
        Return the dataset as plain values. Outputs of other tasks and PipelineParameters stay as they are.

        Airflow finds the outputs there, and renders templates.
        """
        return {"kind": InputKind.FILES.value, **_plain(self)}

    def to_source(self) -> FileSource:
        """Return what plan cuts, once the path is known."""
        return FileSource(
            name=self.name or repr(self),
            paths=_paths(self),
            partition_format=self.partition_format,
            is_direct=self.mode == DIRECT,
        )

    def promoted(self) -> list[Promotion]:
        """The PipelineParameters in its path."""
        return promote_path(self.path, _called(self))

    def __repr__(self) -> str:
        return _represent(type(self).__name__, self) + _named(self)


@declared
@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TabularDataset:
    """
    Tables; each row is one item. Create one with a ``from_`` method, such as ``from_delimited_files``.

    :param kind: format of the files, or a query.
    :param path: as for FileDataset.
    :param separator: character between two values; None: not delimited.
    :param header: whether the first record of each file names the columns; "each": they differ; None: not delimited.
    :param encoding: encoding of the files; None: not text.
    :param partition_format: how the end of each path is to be read.
    :param name: given by ``as_named_input``.
    :param columns: the columns that run() gets, in this order; None: all.
    :param dtypes: types of columns, by name; None: all as pandas finds them.
    :param comment: character that begins a comment in a delimited file, up to the end of the line.
    :param filter: which rows of Parquet files are wanted; None: all.
    :param dropped: columns to leave out, if ``columns`` is None.
    :param sql: a query, whose rows are the table; there is no path then.
    :param conn_id: id of the Airflow connection for the query.
    :param partitioned_by: columns by whose values plan writes a copy, which is then processed; None: there is none.
    :param target: folder of that copy; None: one in the run folder.
    :param max_record_size: how large a record of a text file may be.
    :param only_new: whether to leave out the files that an earlier completed run of the task has processed.
    """

    kind: InputKind
    path: Any
    separator: str | None = None
    header: bool | str | None = None
    encoding: str | None = None
    partition_format: str | None = None
    name: str | None = None
    columns: tuple[Any, ...] | None = None
    dtypes: Mapping[str, str] | None = field(default=None, hash=False)
    comment: str | None = None
    filter: Sequence[Any] | None = field(default=None, hash=False)
    dropped: tuple[str, ...] | None = None
    sql: str | None = None
    conn_id: str | None = None
    partitioned_by: tuple[str, ...] | None = None
    target: Any = None
    max_record_size: int | str = MAX_RECORD_SIZE
    only_new: bool = False

    def __post_init__(self) -> None:
        problems = _common_problems(self)
        problems += columns_problems(self.columns, are_numbered=self.header is False)
        problems += dtypes_problems(self.dtypes)
        problems += filter_problems(self.filter)
        problems += partition_by_problems(self.partitioned_by, has_names=self.header is not False)
        target, target_problems = normalize_target(self.target)
        problems += target_problems
        problems += record_size_problems(self.max_record_size)
        problems += _only_new_problems(self)
        for option in ("columns", "dropped", "partitioned_by"):
            if isinstance(getattr(self, option), list):
                object.__setattr__(self, option, tuple(getattr(self, option)))
        if self.kind is InputKind.DELIMITED:
            problems += delimited_problems(self.separator, self.header, self.encoding, self.comment)
        elif self.kind is InputKind.JSON_LINES:
            problems += encoding_problems(self.encoding)
        elif self.kind is InputKind.QUERY:
            problems += query_problems(self.sql, self.conn_id)
        elif self.kind not in {InputKind.PARQUET, InputKind.ARROW}:
            problems.append("kind of a TabularDataset is unknown; use from_delimited_files or from_parquet_files")
        path, path_problems = ((), []) if self.kind is InputKind.QUERY else normalize_path(self.path)
        problems += path_problems
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "target", target)

    @classmethod
    @declares
    def from_delimited_files(
        cls,
        path: Any,
        separator: str = ",",
        header: bool | Literal["each"] = True,  # noqa: FBT001, FBT002  (the original's order)
        encoding: str = "utf-8",
        partition_format: str | None = None,
        *,
        columns: Sequence[str] | Sequence[int] | None = None,
        dtypes: Mapping[str, str] | None = None,
        comment: str | None = None,
        max_record_size: int | str = MAX_RECORD_SIZE,
        only_new: bool = False,
    ) -> TabularDataset:
        """
        Describe files of delimited text, such as CSV.

        :param path: as for FileDataset.
        :param separator: one character.
        :param header: whether the first record of each file names the columns; all files have the same, unless it is
            "each".
        :param encoding: any that Python knows.
        :param partition_format: as for FileDataset.
        :param columns: names of the columns that are wanted, in the wanted order; numbers without a header.
        :param dtypes: types of columns, such as ``{"zip": "str"}``; the others are as pandas finds them.
        :param comment: character that begins a comment, up to the end of the line.
        :param max_record_size: bytes of a record above which plan stops, instead of holding all that follows a quote
            that is not closed: an int, or a str such as "64MB".
        :param only_new: as for FileDataset.
        """
        return cls(
            kind=InputKind.DELIMITED,
            path=path,
            separator=separator,
            header=header,
            encoding=encoding,
            partition_format=partition_format,
            columns=columns,  # type: ignore[arg-type]  # made a tuple once it is checked
            dtypes=dtypes,
            comment=comment,
            max_record_size=max_record_size,
            only_new=only_new,
        )

    @classmethod
    @declares
    def from_json_lines_files(
        cls,
        path: Any,
        encoding: str = "utf-8",
        partition_format: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        dtypes: Mapping[str, str] | None = None,
        max_record_size: int | str = MAX_RECORD_SIZE,
        only_new: bool = False,
    ) -> TabularDataset:
        """
        Describe files with a JSON object a line.

        :param path: as for FileDataset.
        :param encoding: any that Python knows.
        :param partition_format: as for FileDataset.
        :param columns: names of the columns that are wanted, in the wanted order.
        :param dtypes: types of columns; the others are as pandas finds them.
        :param max_record_size: bytes of a line above which plan stops: an int, or a str such as "64MB".
        :param only_new: as for FileDataset.
        """
        return cls(
            kind=InputKind.JSON_LINES,
            path=path,
            encoding=encoding,
            partition_format=partition_format,
            columns=columns,  # type: ignore[arg-type]  # made a tuple once it is checked
            dtypes=dtypes,
            max_record_size=max_record_size,
            only_new=only_new,
        )

    @classmethod
    @declares
    def from_parquet_files(
        cls,
        path: Any,
        partition_format: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        filter: Sequence[Any] | None = None,  # noqa: A002 - what it is called everywhere
        only_new: bool = False,
    ) -> TabularDataset:
        """
        Describe Parquet files.

        :param path: as for FileDataset.
        :param partition_format: as for FileDataset.
        :param columns: names of the columns that are wanted, in the wanted order.
        :param filter: conditions that the wanted rows fulfil, such as ``[("year", ">=", 2020)]``; of a list of such
            lists one is enough. Values are text, numbers, True, False, dates, datetimes, Decimals; None is what is
            missing.
        :param only_new: as for FileDataset.
        """
        return cls(
            kind=InputKind.PARQUET,
            path=path,
            partition_format=partition_format,
            columns=columns,  # type: ignore[arg-type]  # made a tuple once it is checked
            filter=_as_lists(filter),
            only_new=only_new,
        )

    @classmethod
    @declares
    def from_arrow_files(
        cls,
        path: Any,
        partition_format: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        only_new: bool = False,
    ) -> TabularDataset:
        """
        Describe Arrow files, Feather files (version 2) among them.

        :param path: as for FileDataset.
        :param partition_format: as for FileDataset.
        :param columns: names of the columns that are wanted, in the wanted order.
        :param only_new: as for FileDataset.
        """
        return cls(
            kind=InputKind.ARROW,
            path=path,
            partition_format=partition_format,
            columns=columns,  # type: ignore[arg-type]  # made a tuple once it is checked
            only_new=only_new,
        )

    @classmethod
    @declares
    def from_mltable(cls, folder: str | os.PathLike[str], *, only_new: bool = False) -> TabularDataset:
        """
        Read the original's file MLTable.

        :param folder: absolute path of the folder that holds it.
        :param only_new: as for FileDataset.
        :raises ConfigError: if it cannot be read, or asks for something that is not known here.
        """
        return cls(**read_mltable(folder), only_new=only_new)

    @classmethod
    @declares
    def from_sql_query(cls, sql: str, conn_id: str) -> TabularDataset:
        """
        Describe the rows of a query, which plan exports once.

        :param sql: the query; a Jinja template.
        :param conn_id: the id of an Airflow connection to a database.
        """
        return cls(kind=InputKind.QUERY, path=(), sql=sql, conn_id=conn_id)

    @declares
    def partition_by(
        self, partition_keys: Sequence[str], target: Any = None, name: str | None = None
    ) -> TabularDataset:
        """
        Describe a copy that is partitioned by the values of columns; plan writes it.

        :param partition_keys: names of the columns; partition_keys of the configuration may be some of them.
        :param target: folder of the copy, with a folder ``key=value`` for each value and Parquet files in it: a path or
            an address on object storage; may be a template, a PipelineParameter, or what another task returns; relative
            to the DAG file's folder. None: it is part of the run folder.
        :param name: as given by ``as_named_input``; None: that of this dataset.
        :raises ConfigError: if partition_keys is empty or names a column twice, if the columns have no names, or if
            this is such a copy already.
        """
        if self.partitioned_by is not None:
            raise ConfigError([f"partition_by: this dataset is partitioned by {list(self.partitioned_by)} already"])
        copy = replace(self, partitioned_by=partition_keys, target=target)  # type: ignore[arg-type]  # made a tuple
        return copy if name is None else copy.as_named_input(name)

    def get_partition_key_values(self, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """
        Return the different combinations of key values, in the order of the mini-batches.

        If a partitioned copy is planned, the key columns of the files are read. Otherwise the files are only listed.
        Relative paths start from the working directory.

        :param keys: some of the keys; None: all.
        :return: a dict of key to value for each combination; a missing value is None.
        :raises ConfigError: if there is no such key, or the path is known only in a run, as are the rows of a query.
        :raises InputError: if the files cannot be listed or read.
        """
        return _partition_key_values(self, keys)

    @declares
    def as_named_input(self, name: str) -> TabularDataset:
        """Return the same dataset with a name."""
        return replace(self, name=_require_name(name))

    def to_spec(self) -> dict[str, Any]:
        """Return the dataset as plain values, as FileDataset does."""
        plain = {"kind": self.kind.value, **_plain(self)}
        return plain if self.filter is None else {**plain, "filter": encode(self.filter)}

    def to_source(self) -> TableSource:
        """
        Return what plan cuts, once the path is known.

        :raises ConfigError: if this is a query, whose rows only plan exports.
        """
        table: dict[str, Any] = {
            "name": self.name or repr(self),
            "paths": _paths(self),
            "partition_format": self.partition_format,
            "columns": self.columns,
            "dropped": self.dropped,
            "dtypes": self.dtypes or {},
            "partitioned_by": self.partitioned_by,
            "target": self.target if isinstance(self.target, str) else None,
        }
        text: dict[str, Any] = {"encoding": self.encoding, "max_record_size": record_limit(self.max_record_size)}
        if self.kind is InputKind.DELIMITED:
            return DelimitedSource(
                **table, **text, separator=str(self.separator), header=self.header or False, comment=self.comment
            )
        if self.kind is InputKind.JSON_LINES:
            return JsonLinesSource(**table, **text)
        if self.kind is InputKind.PARQUET:
            return ParquetSource(**table, filter=self.filter)
        if self.kind is InputKind.ARROW:
            return ArrowSource(**table)
        raise ConfigError([f"{self!r} is a query, which only plan runs"])

    def promoted(self) -> list[Promotion]:
        """The PipelineParameters in its path and target."""
        return [*promote_path(self.path, _called(self)), *promote_target(self.target, _called(self))]

    def __repr__(self) -> str:
        if self.kind is InputKind.QUERY:
            made = f"TabularDataset.from_sql_query({self.sql!r}, {self.conn_id!r})"
        else:
            made = _represent(f"TabularDataset.from_{self.kind.value}_files", self)
        return made + _partitioned(self) + _named(self)


Dataset = FileDataset | TabularDataset


def fill_in_spec(spec: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``to_spec`` described, with the run's values in place of PipelineParameters."""
    return {name: (fill_in_path if name == "path" else fill_in)(value, params) for name, value in spec.items()}


def dataset_from_spec(spec: Mapping[str, Any], params: Mapping[str, Any]) -> Dataset:
    """
    Return the dataset that ``to_spec`` described, after Airflow has rendered the templates in it.

    :param params: the params of the run, whose values replace PipelineParameters.
    :raises ConfigError: if a template was rendered to something that is not a path.
    """
    options = fill_in_spec(spec, params)
    kind = InputKind(options.pop("kind"))
    if options.get("filter") is not None:
        options["filter"] = decode(options["filter"])
    return FileDataset(**options) if kind is InputKind.FILES else TabularDataset(kind=kind, **options)


def _as_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples and sets, as JSON returns them."""
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)  # the same on every host
    return [_as_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def _common_problems(dataset: FileDataset | TabularDataset) -> list[str]:
    problems = []
    if dataset.name is not None and not _is_name(dataset.name):
        problems.append(wrong("name", dataset.name, NAME_ALLOWED))
    form = dataset.partition_format
    if form is not None and not _is_partition_format(form):
        allowed = "the end of a path with at least one {key} or {key:yyyy/MM/dd}, each key once"
        problems.append(wrong("partition_format", form, allowed))
    return problems


def _only_new_problems(dataset: FileDataset | TabularDataset) -> list[str]:
    if not isinstance(dataset.only_new, bool):
        return [wrong("only_new", dataset.only_new, "True or False")]
    if not dataset.only_new or isinstance(dataset, FileDataset):
        return []
    if dataset.kind is InputKind.QUERY:
        return ["only_new is True for a query; allowed: files. Select the new rows in the query instead"]
    if dataset.partitioned_by is not None:
        return ["only_new is True for a partitioned copy, which holds all rows; allowed: one of the two"]
    return []


def _is_partition_format(form: Any) -> bool:
    if not isinstance(form, str):
        return False
    keys, rest = _KEY.findall(form), _KEY.sub("", form)
    return bool(keys) and "" not in keys and len(set(keys)) == len(keys) and not set(rest) & set("{}")


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _require_name(name: str) -> str:
    if not _is_name(name):
        raise ConfigError([wrong("name", name, NAME_ALLOWED)])
    return name


def _called(dataset: FileDataset | TabularDataset) -> str:
    return dataset.name or "a dataset"


def _partition_key_values(dataset: FileDataset | TabularDataset, keys: Sequence[str] | None) -> list[dict[str, Any]]:
    _require_known(dataset)
    # Imported here, because these modules would slow down every parse of a DAG file.
    from airflow_prs.inputs.key_values import partition_key_values

    return partition_key_values(dataset.to_source(), keys)


def _require_known(dataset: FileDataset | TabularDataset) -> None:
    """
    Check that the rows of a dataset can be found without a run.

    :raises ConfigError: if it is a query, or its path is a template or a PipelineParameter.
    """
    if isinstance(dataset, TabularDataset) and dataset.kind is InputKind.QUERY:
        raise ConfigError([f"get_partition_key_values: {dataset!r} is a query, which only plan runs"])
    for path in _paths(dataset):
        if not isinstance(path, str) or "{{" in path or list(find_parameters(path)):
            problem = f"get_partition_key_values: path is {path!r}, which only a run knows; pass the path itself"
            raise ConfigError([problem])


def _paths(dataset: FileDataset | TabularDataset) -> tuple[Any, ...]:
    return dataset.path if isinstance(dataset.path, tuple) else (dataset.path,)


def _plain(dataset: FileDataset | TabularDataset) -> dict[str, Any]:
    plain = {option.name: getattr(dataset, option.name) for option in fields(dataset) if option.name != "kind"}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    told = {name for name, value in plain.items() if value is not None} | _ALWAYS_TOLD
    for name, default in (("max_record_size", MAX_RECORD_SIZE), ("mode", DOWNLOAD), ("only_new", False)):
        if plain.get(name) == default:
            told.discard(name)
    return {name: value for name, value in plain.items() if name in told}


def _represent(maker: str, dataset: FileDataset | TabularDataset) -> str:
    plain = _plain(dataset)
    path = plain.pop("path")
    for shown_elsewhere in ("name", "partitioned_by", "target"):
        plain.pop(shown_elsewhere, None)
    defaults = {"separator": ",", "header": True, "encoding": "utf-8"}
    listed = [f"{key}={value!r}" for key, value in plain.items() if value is not None and value != defaults.get(key)]
    return f"{maker}({', '.join([repr(path), *listed])})"


def _partitioned(dataset: TabularDataset) -> str:
    if dataset.partitioned_by is None:
        return ""
    target = "" if dataset.target is None else f", target={dataset.target!r}"
    return f".partition_by({list(dataset.partitioned_by)!r}{target})"


def _named(dataset: FileDataset | TabularDataset) -> str:
    return f".as_named_input({dataset.name!r})" if dataset.name else ""
