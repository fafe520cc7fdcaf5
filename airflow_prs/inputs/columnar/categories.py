"""The categories of a column in all files of an input together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_prs.inputs.columnar.column_facts import Place
from airflow_prs.worker.reading.alike import type_without_view

MOST_BYTES = 1024 * 1024
"""The most bytes of categories, which every worker process gets."""


@dataclass(slots=True)
class Categories:
    """
    Collects the categories of a column.

    :param places: places of the rows.
    :param values: the categories, in the order of their first appearance.
    """

    places: list[Place] = field(default_factory=list)
    values: Any = None

    def common_type(self, kind: Any, read: Callable[[Place], Any]) -> Any:
        """
        Read all categories, since those of a part depend on where the table was cut.

        :param kind: Arrow type of the column.
        :param read: returns the values of the column at a place.
        :return: the type that the column gets: ``kind``, or the type of its values if there are too many categories.
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
