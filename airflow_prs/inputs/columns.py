"""The columns of an input, and what was asked for of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_prs.errors import ConfigError, InputError

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

    def chosen(
        self,
        name: str,
        columns: Sequence[str | int] | None,
        dropped: Sequence[str] | None = None,
        keys: Sequence[str] = (),
    ) -> dict[str, Any]:
        """
        Say which columns there are in the files, and which of them are wanted.

        :param name: of the input.
        :param columns: what was asked for; None: all.
        :param dropped: what is left out then.
        :param keys: the keys in the paths; where the files hold them themselves, they are wanted in any case.
        :raises InputError: if one of the columns is not there.
        """
        names: list[str | int] | None = None if self.names is None else list(self.names)
        there = [*(names or ()), *(key for key in keys if key not in (names or ()))]
        missing = [column for column in columns or dropped or () if names is not None and column not in there]
        if missing:
            raise InputError(f"{name!r} has no column {', '.join(map(repr, missing))}; it has the columns {there}.")
        held = held_columns(names or (), columns, dropped, keys)
        options = {"columns": names, "chosen": held, "dtypes": dict(self.dtypes)}
        return options if self.schema is None else {**options, "schema": encode_schema(self.schema)}


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
