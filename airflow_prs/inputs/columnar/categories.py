"""The categories that a column has in all files of an input together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_prs.inputs.columnar.column_facts import Place
from airflow_prs.worker.reading.alike import type_without_view

MOST_BYTES = 1024 * 1024
"""So much of them goes to every worker process."""


@dataclass(slots=True)
class Categories:
    """
    Collects the categories of a column.

    :param places: where its rows are.
    :param values: the categories, in the order in which they first appear.
    """

    places: list[Place] = field(default_factory=list)
    values: Any = None

    def settle(self, kind: Any, read: Callable[[Place], Any]) -> Any:
        """
        Read all categories: those of a part depend on where the table was cut.

        :param kind: Arrow's type of the column.
        :param read: reads the column at a place.
        :return: the type that it is to have: that of what categories stand for, if they are too many.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        values = type_without_view(kind.value_type)
        self.values = pa.array([], values)
        known = None
        for place in self.places:
            for chunk in read(place).chunks:
                if not pa.types.is_dictionary(chunk.type) or (known is not None and chunk.dictionary.equals(known)):
                    continue
                known = chunk.dictionary
                self.values = pc.unique(pa.concat_arrays([self.values, known.cast(values)])).drop_null()
                if self.values.nbytes > MOST_BYTES:
                    return values
        return kind
