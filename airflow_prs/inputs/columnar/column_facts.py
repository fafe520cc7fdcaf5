"""What decides how pandas holds a column: whether values are missing, and how large whole numbers are."""

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
    What is known of a column of all files.

    :param has_nulls: whether a value is missing.
    :param is_beyond: whether there is a whole number that a float would round.
    :param unsure_nulls: where only the values can tell whether one is missing.
    :param unsure_sizes: where only the values can tell how large they are.
    :param unseen: files of which statistics of sizes were not looked at, as no value was missing until then.
    """

    has_nulls: bool = False
    is_beyond: bool = False
    unsure_nulls: list[Place] = field(default_factory=list)
    unsure_sizes: list[Place] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def note_values(self, column: Any) -> None:
        """Take note of how large the whole numbers of a part are."""
        import pyarrow.compute as pc

        self.is_beyond = self.is_beyond or not are_exact_as_floats(*pc.min_max(column).as_py().values())

    def settle(
        self, read: Callable[[Place], Any], look: Callable[[str], None], *, is_wide: bool, meets_floats: bool
    ) -> None:
        """
        Read values as far as they decide.

        :param read: reads the column at a place.
        :param look: looks at a file of which sizes were not looked at.
        :param is_wide: whether there can be whole numbers that a float would round.
        :param meets_floats: whether they become floats in any case.
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
    """Tell whether pandas holds a column of this type in another way where values are missing."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind))


def is_wide(kind: Any) -> bool:
    """Tell whether a type has whole numbers that a float would round."""
    from pyarrow import types

    return bool(types.is_int64(kind) or types.is_uint64(kind))
