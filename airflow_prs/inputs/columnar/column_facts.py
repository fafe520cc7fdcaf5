"""The facts that determine the pandas type of a column: whether values are missing, and how large integers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_prs.worker.reading.dtypes import are_exact_as_floats

Place = tuple[str, int | None]
"""A file, and a row group in it; None: the entire file."""


@dataclass(slots=True)
class ColumnFacts:
    """
    The facts about a column in all files.

    :param has_nulls: whether a value is missing.
    :param is_beyond: whether there is an integer that a float would round.
    :param unsure_nulls: places whose values must be read to know whether one is missing.
    :param unsure_sizes: places whose values must be read to know how large they are.
    :param unseen: files whose statistics of sizes were not read, since no value was missing so far.
    """

    has_nulls: bool = False
    is_beyond: bool = False
    unsure_nulls: list[Place] = field(default_factory=list)
    unsure_sizes: list[Place] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def note_values(self, column: Any) -> None:
        """Update ``is_beyond`` with the integers of a part."""
        import pyarrow.compute as pc

        self.is_beyond = self.is_beyond or not are_exact_as_floats(*pc.min_max(column).as_py().values())

    def complete(
        self, read: Callable[[Place], Any], look: Callable[[str], None], *, is_wide: bool, meets_floats: bool
    ) -> None:
        """
        Read values until all facts are known that matter.

        :param read: returns the values of the column at a place.
        :param look: updates the facts with the statistics of a file in ``unseen``.
        :param is_wide: whether there can be integers that a float would round.
        :param meets_floats: whether integers become floats in any case.
        """
        done = set()
        for place in self.unsure_nulls:
            if self.has_nulls:
                break
            column = read(place)
            done.add(place)
            self.has_nulls = column.null_count > 0
            if is_wide:
                self.note_values(column)
        if is_wide and (self.has_nulls or meets_floats):
            for path in self.unseen:
                if not self.is_beyond:
                    look(path)
            for place in self.unsure_sizes:
                if self.is_beyond:
                    break
                if place not in done:
                    self.note_values(read(place))


def is_decisive(kind: Any) -> bool:
    """Return whether the pandas type of a column of this Arrow type depends on missing values."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind))


def is_wide(kind: Any) -> bool:
    """Return whether a type has integers that a float would round."""
    from pyarrow import types

    return bool(types.is_int64(kind) or types.is_uint64(kind))
