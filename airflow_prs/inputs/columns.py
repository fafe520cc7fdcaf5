"""The columns of an input, and which of them the author wants."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.inputs.sources import TableSource
from airflow_prs.records import InputSpec

_VALUES = ("2026-01-31", "1", "True")
"""Values as a file may hold them; each type can be read from one of them."""

Names = Sequence[str] | Sequence[int] | Sequence[str | int]

Choose = Callable[[Sequence[str]], "Sequence[str | int] | None"]
"""Takes the columns of files and returns the wanted ones; None: all."""


@dataclass(frozen=True, slots=True)
class Columns:
    """
    The columns of an input.

    :param names: names in the order of the files; numbers if there is no header; None: there is nothing to read.
    :param dtypes: pandas types of the columns that could have another type in a single mini-batch.
    :param schema: Arrow schema of the wanted columns, with pandas' metadata; None: the files are text.
    """

    names: Names | None
    dtypes: Mapping[str, str]
    schema: Any = None

    def of(self, source: TableSource, keys: Sequence[str] = ()) -> Table:
        """
        Return the table with the columns that a source asks for.

        :param keys: the keys in the paths; columns of the files with these names are always wanted.
        :raises InputError: if a column that the source names does not exist.
        """
        names: list[str | int] | None = None if self.names is None else list(self.names)
        every = [*(names or ()), *(key for key in keys if key not in (names or ()))]
        asked = source.columns or source.dropped or ()
        if missing := [repr(column) for column in asked if names is not None and column not in every]:
            raise InputError(f"{source.name!r} has no column {', '.join(missing)}; it has the columns {every}.")
        held = held_columns(names or (), source.columns, source.dropped, keys)
        return Table(source=source, names=names, chosen=held, dtypes=self.dtypes, schema=self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    How the files of a table are read.

    :param source: what the author wrote.
    :param names: the columns of the files; numbers if there is no header; None: there is nothing to read.
    :param chosen: the columns that are read; None: all.
    :param dtypes: see Columns.
    :param schema: see Columns.
    :param path_keys: the keys in the paths, which become columns, see worker.reading.key_columns; None: no keys.
    """

    source: TableSource
    names: list[str | int] | None
    chosen: list[str | int] | None
    dtypes: Mapping[str, str]
    schema: Any = None
    path_keys: Mapping[str, Any] | None = None

    @property
    def run_columns(self) -> list[str | int]:
        """Return the columns that run() gets, in their order."""
        if self.path_keys is None:
            return self.chosen or self.names or []
        keys = (key[0] for key in self.path_keys["keys"])
        return list(self.path_keys.get("order") or [*(self.chosen or self.names or ()), *keys])

    def options(self) -> dict[str, Any]:
        """Return as plain values the options with which a worker process reads the files."""
        options = {**self.source.options(), "columns": self.names, "chosen": self.chosen, "dtypes": dict(self.dtypes)}
        if self.schema is not None:
            options["schema"] = encode_schema(self.schema)
        return options if self.path_keys is None else {**options, "path_keys": self.path_keys}

    def spec(self, keys: Sequence[str] = ()) -> InputSpec:
        """
        Return the input as the run folder holds it.

        :param keys: see InputSpec.
        """
        return InputSpec(
            name=self.source.name, kind=self.source.kind, options=self.options(), partition_keys=tuple(keys)
        )


def chooser(source: TableSource, keys: Sequence[str]) -> Choose:
    """Return a function that chooses the columns to read from those of a file; it returns None for all."""
    return partial(held_columns, columns=source.columns, dropped=source.dropped, keys=keys)


def encode_schema(schema: Any) -> str:
    """Return an Arrow schema as base64 text."""
    return b64encode(schema.serialize().to_pybytes()).decode()


def held_columns(
    names: Sequence[str | int], columns: Sequence[str | int] | None, dropped: Sequence[str] | None, keys: Sequence[str]
) -> list[str | int] | None:
    """
    Return the wanted columns among those that the files hold; None: all.

    If only keys in paths are wanted, all columns are read, since a table without columns has no number of rows.
    """
    every = [*names, *(key for key in keys if key not in names)]
    wanted = wanted_columns(every, columns, dropped, keys)
    return None if wanted is None else [column for column in wanted if column in names] or None


def wanted_columns(
    every: Sequence[str | int],
    columns: Sequence[str | int] | None,
    dropped: Sequence[str] | None,
    keys: Sequence[str],
) -> list[str | int] | None:
    """
    Return the columns that run() gets, in their order; None: all.

    :param every: the columns of the files, and the keys that only the paths hold.
    :param columns: the columns that the author wants; None: all. The keys follow if they are not among them.
    :param dropped: the columns to leave out, if ``columns`` is None.
    :param keys: the keys in the paths.
    """
    if columns is not None:
        return [*columns, *(key for key in keys if key not in columns)]
    return [column for column in every if column not in dropped] if dropped else None


def require_same(columns: list[str] | None, names: list[str], first: str, path: str) -> list[str]:
    """
    Check that a file has the same columns as the first file, and return them.

    :param columns: columns of the first file; None: this is the first file.
    :param names: columns of this file.
    :param first: path of the first file.
    :raises InputError: if the columns differ.
    """
    if columns is not None and names != columns:
        raise InputError(
            f"{path!r} has the columns {names}, but {first!r} has {columns}; "
            "all files of an input must have the same columns in the same order."
        )
    return names


def require_types(name: str, dtypes: Mapping[str, str], read: Callable[[str, str], object]) -> None:
    """
    Check that pandas can read the types that the author wrote.

    :param read: reads a value of a file as a type, and raises an error if pandas cannot.
    :raises ConfigError: if pandas cannot read a type.
    """
    problems = [
        f"dtypes of {name!r} has {dtype!r} for {column!r}; allowed: a type that pandas reads. pandas reports: {problem}"
        for column, dtype in dtypes.items()
        if (problem := _problem_with(dtype, read))
    ]
    if problems:
        raise ConfigError(problems)


def _problem_with(dtype: str, read: Callable[[str, str], object]) -> str | None:
    """Return why pandas can read none of the sample values as a type; None: it can read one of them."""
    problems = [_problem_with_value(value, dtype, read) for value in _VALUES]
    return None if None in problems else problems[0]


def _problem_with_value(value: str, dtype: str, read: Callable[[str, str], object]) -> str | None:
    try:
        read(value, dtype)
    except Exception as error:  # noqa: BLE001 - pandas raises whatever its parsers find
        return " ".join(str(error).split())
    return None


def require_fixed_types(name: str, dtypes: Mapping[str, str]) -> None:
    """
    Check that the types that the author wrote are the same in all mini-batches.

    :raises ConfigError: if a type depends on the values of a mini-batch.
    """
    problems = [
        f"dtypes of {name!r} has {dtype!r} for {column!r}; allowed: a type that is the same in all mini-batches, "
        "but each mini-batch would have its own categories: write 'str', and convert the column in run()"
        for column, dtype in dtypes.items()
        if dtype == "category"
    ]
    if problems:
        raise ConfigError(problems)


def require_known(name: str, dtypes: Mapping[str, str], names: Names | None) -> None:
    """
    Check that the columns for which the author wrote types exist.

    :param name: name of the input.
    :param names: the columns of all files; None: there is nothing to read.
    :raises InputError: if a column does not exist.
    """
    if names is None:
        return
    missing = [column for column in dtypes if column not in map(str, names)]
    if missing:
        raise InputError(
            f"dtypes of {name!r} names {', '.join(map(repr, missing))}, but its files have the columns {list(names)}."
        )
