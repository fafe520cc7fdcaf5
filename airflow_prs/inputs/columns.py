"""The columns of an input, and what was asked for of them."""

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
"""As they may stand in a file; each type can read one of them."""

Names = Sequence[str] | Sequence[int] | Sequence[str | int]

Choose = Callable[[Sequence[str]], "Sequence[str | int] | None"]
"""Returns the wanted ones of the columns of files; None: all."""


@dataclass(frozen=True, slots=True)
class Columns:
    """
    The columns of an input.

    :param names: in the order of the files; numbers without a header; None if there is nothing to read.
    :param dtypes: types, as pandas calls them, of those that a mini-batch alone could give another type.
    :param schema: the wanted columns in Arrow's words, with notes for pandas; None: the files are text.
    """

    names: Names | None
    dtypes: Mapping[str, str]
    schema: Any = None

    def of(self, source: TableSource, keys: Sequence[str] = ()) -> Table:
        """
        Choose the columns that a source asks for.

        :param keys: the keys in the paths; where the files hold them themselves, they are wanted in any case.
        :raises InputError: if one of the columns is not there.
        """
        names: list[str | int] | None = None if self.names is None else list(self.names)
        there = [*(names or ()), *(key for key in keys if key not in (names or ()))]
        asked = source.columns or source.dropped or ()
        if missing := [repr(column) for column in asked if names is not None and column not in there]:
            raise InputError(f"{source.name!r} has no column {', '.join(missing)}; it has the columns {there}.")
        held = held_columns(names or (), source.columns, source.dropped, keys)
        return Table(source=source, names=names, chosen=held, dtypes=self.dtypes, schema=self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    How the files of a table are read.

    :param source: what the author asked for.
    :param names: the columns of the files; numbers without a header; None if there is nothing to read.
    :param chosen: those of them that are read; None: all.
    :param dtypes: see Columns.
    :param schema: see Columns.
    :param path_keys: the keys whose columns stand in the paths, see worker.reading.key_columns; None: there are none.
    """

    source: TableSource
    names: list[str | int] | None
    chosen: list[str | int] | None
    dtypes: Mapping[str, str]
    schema: Any = None
    path_keys: Mapping[str, Any] | None = None

    @property
    def run_columns(self) -> list[str | int]:
        """The columns that run() gets, in their order."""
        if self.path_keys is None:
            return self.chosen or self.names or []
        keys = (key[0] for key in self.path_keys["keys"])
        return list(self.path_keys.get("order") or [*(self.chosen or self.names or ()), *keys])

    def options(self) -> dict[str, Any]:
        """Return as plain values what a worker process needs to read the files; see worker.reading.readers."""
        options = {**self.source.options(), "columns": self.names, "chosen": self.chosen, "dtypes": dict(self.dtypes)}
        if self.schema is not None:
            options["schema"] = encode_schema(self.schema)
        return options if self.path_keys is None else {**options, "path_keys": self.path_keys}

    def spec(self, keys: Sequence[str] = ()) -> InputSpec:
        """
        Return what the run folder holds of it.

        :param keys: see InputSpec.
        """
        return InputSpec(
            name=self.source.name, kind=self.source.kind, options=self.options(), partition_keys=tuple(keys)
        )


def chooser(source: TableSource, keys: Sequence[str]) -> Choose:
    """Return what chooses the columns to read from those that files hold; it returns None for all."""
    return partial(held_columns, columns=source.columns, dropped=source.dropped, keys=keys)


def encode_schema(schema: Any) -> str:
    """Write a schema as text, which worker processes read."""
    return b64encode(schema.serialize().to_pybytes()).decode()


def held_columns(
    names: Sequence[str | int], columns: Sequence[str | int] | None, dropped: Sequence[str] | None, keys: Sequence[str]
) -> list[str | int] | None:
    """
    Choose from the columns that files hold, as ``wanted_columns`` does from all; None: all.

    Without any column the number of rows would be lost, so it is all of them where only keys in paths are wanted.
    """
    there = [*names, *(key for key in keys if key not in names)]
    wanted = wanted_columns(there, columns, dropped, keys)
    return None if wanted is None else [column for column in wanted if column in names] or None


def wanted_columns(
    there: Sequence[str | int],
    columns: Sequence[str | int] | None,
    dropped: Sequence[str] | None,
    keys: Sequence[str],
) -> list[str | int] | None:
    """
    Say which columns run() gets, in their order; None: all.

    :param there: the columns of the files, and the keys that only the paths hold.
    :param columns: what was asked for, keys apart, which follow where they were not.
    :param dropped: what is left out where nothing was asked for.
    """
    if columns is not None:
        return [*columns, *(key for key in keys if key not in columns)]
    return [column for column in there if column not in dropped] if dropped else None


def require_same(columns: list[str] | None, names: list[str], first: str, path: str) -> list[str]:
    """
    Check that a file has the columns of the first one, and give them.

    :param columns: of the first file; None: this is it.
    :raises InputError: if it has others.
    """
    if columns is not None and names != columns:
        raise InputError(
            f"{path!r} has the columns {names}, but {first!r} has {columns}; "
            "all files of an input must have the same columns in the same order."
        )
    return names


def require_types(name: str, dtypes: Mapping[str, str], read: Callable[[str, str], object]) -> None:
    """
    Check types that were given.

    :param read: reads a value, as it stands in a file, as a type.
    :raises ConfigError: if one is none that pandas reads.
    """
    problems = [
        f"dtypes of {name!r} has {dtype!r} for {column!r}; allowed: a type that pandas reads; it says: {problem}"
        for column, dtype in dtypes.items()
        if (problem := _problem_with(dtype, read))
    ]
    if problems:
        raise ConfigError(problems)


def _problem_with(dtype: str, read: Callable[[str, str], object]) -> str | None:
    """Return why pandas reads no sample value as a type; None: it reads at least one."""
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
    Check that a type which was given is the same in all mini-batches.

    :raises ConfigError: if one depends on the values of a mini-batch.
    """
    problems = [
        f"dtypes of {name!r} has {dtype!r} for {column!r}; allowed: a type that is the same in all mini-batches, "
        "but each would have its own categories: give 'str', and make the categories in run()"
        for column, dtype in dtypes.items()
        if dtype == "category"
    ]
    if problems:
        raise ConfigError(problems)


def require_known(name: str, dtypes: Mapping[str, str], names: Names | None) -> None:
    """
    Check that there are the columns for which types were given.

    :param name: of the input.
    :param names: the columns of all files; None: there is nothing to read.
    :raises InputError: if one is not there.
    """
    if names is None:
        return
    there = list(names)
    missing = [column for column in dtypes if column not in map(str, there)]
    if missing:
        raise InputError(
            f"dtypes of {name!r} names {', '.join(map(repr, missing))}, but its files have the columns {there}."
        )
