"""The Arrow and pandas types of the columns of an input, which are the same for all its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_prs.errors import InputError
from airflow_prs.inputs.columnar.categories import Categories
from airflow_prs.inputs.columnar.column_facts import ColumnFacts, Place, is_decisive, is_wide
from airflow_prs.inputs.columnar.common_types import common_type, is_float
from airflow_prs.inputs.columns import require_same
from airflow_prs.worker.reading.alike import PANDAS, family_of, notes_of_pandas, type_without_view, with_categories


@dataclass(slots=True)
class _Column:
    """
    A column of the files so far.

    :param kind: Arrow type that holds the values of all files.
    :param path: the first file with values in the column, or the first file with the column if there are no values.
    :param entry: entry of the column in pandas' metadata.
    :param extension: the pandas type in this metadata, if it is not a type of numpy; "": files have different ones.
    """

    kind: Any
    path: str
    entry: Mapping[str, Any]
    extension: str | None = None


class FrameTypes:
    """
    Collects the columns of files, and finds one type for each column.

    :param choose: takes the columns of a file and returns the wanted ones; None: all.
    :ivar names: the columns, which are the same in each file; None: no file was added.
    :ivar facts: facts about columns, by name.
    """

    def __init__(self, choose: Callable[[Sequence[str]], Sequence[Any] | None]) -> None:
        self.names: list[str] | None = None
        self.facts: dict[str, ColumnFacts] = {}
        self._categories: dict[str, Categories] = {}
        self._choose = choose
        self._columns: dict[str, _Column] = {}
        self._index: list[str] | None = None
        self._first = self._index_path = ""
        self._labels: Any = None
        self._same: tuple[Any, int] | None = None

    def add(self, path: str, schema: Any, rows: int) -> None:
        """
        Add the columns of a file.

        :param schema: Arrow schema of the file.
        :param rows: number of rows. The types of a file without rows do not count.
        :raises InputError: if the columns differ from those of an earlier file, or a type has nothing in common with
            that in an earlier file.
        """
        if (
            self._same is not None
            and bool(rows) == bool(self._same[1])
            and schema.equals(self._same[0], check_metadata=True)
        ):
            return
        known = notes_of_pandas(schema)
        entries = {entry.get("field_name", entry["name"]): entry for entry in known.get("columns", ())}
        fields, index, is_counted = _fields_of(schema, known, entries, rows)
        self._same = None if is_counted else (schema, rows)
        names = [field.name for field in fields if field.name not in index]
        self._require_names(names, path)
        labels = known.get("column_indexes", [])
        self._labels = labels if self._labels in (None, labels) else []
        if rows:
            self._require_index(index, path)
        chosen = self._choose(names)
        for field in fields:
            if chosen is None or field.name in chosen or field.name in index:
                self._add(path, field, entries.get(field.name, {}), rows)

    def watched(self, schema: Any) -> dict[str, Any]:
        """
        Return the columns of a file whose nulls or sizes of numbers must be known.

        :return: field by name.
        """
        fields = {field.name: field for field in schema if field.name in self._columns and is_decisive(field.type)}
        return {
            name: field
            for name, field in fields.items()
            if not (facts := self.facts.setdefault(name, ColumnFacts())).has_nulls
            or (is_wide(field.type) and not facts.is_beyond)
        }

    def note_places(self, schema: Any, places: Sequence[Place]) -> None:
        """
        Note the places of a file's rows for each column with categories.

        :param schema: Arrow schema of the file.
        """
        import pyarrow as pa

        for field in schema:
            if pa.types.is_dictionary(field.type) and field.name in self._columns:
                self._categories.setdefault(field.name, Categories()).places.extend(places)

    def complete(
        self,
        read: Callable[[str, Place], Any],
        look: Callable[[str, str], None] = lambda name, path: None,  # noqa: ARG005
    ) -> None:
        """
        Read values of those columns whose types cannot be determined otherwise.

        :param read: returns the values of a column at a place.
        :param look: updates the facts about the sizes of numbers of a column with the statistics of a file.
        """
        for name, facts in self.facts.items():
            column = self._columns.get(name)
            if column is not None and not column.extension:
                meets_floats = is_float(column.kind)
                facts.complete(
                    partial(read, name),
                    partial(look, name),
                    is_wide=is_wide(column.kind) or meets_floats,
                    meets_floats=meets_floats,
                )
        for name, categories in self._categories.items():
            column = self._columns[name]
            if family_of(column.kind) == "is_dictionary":
                column.kind = categories.common_type(column.kind, partial(read, name))

    def schema(self) -> tuple[dict[str, str], Any]:
        """
        Return the types that pandas would not find in every mini-batch, and the schema with pandas' metadata.

        :raises InputError: if numbers of a column would be rounded.
        """
        import pyarrow as pa

        fields, entries, dtypes = [], [], {}
        for name in self._ordered():
            column = self._columns[name]
            facts = self.facts.get(name, ColumnFacts())
            if facts.is_beyond and is_float(column.kind) and not column.extension:
                raise InputError(
                    f"column {name!r} holds whole numbers beyond 2^53 in some files and floats in others (first in "
                    f"{column.path!r}), which would round them: convert the files, or leave the column out with "
                    "columns."
                )
            dtype, extension = types_with_nulls(column.kind, facts)
            extension = column.extension or extension
            if dtype is not None and not column.extension:
                dtypes[name] = dtype
            field = pa.field(name, column.kind)
            if family_of(column.kind) == "is_dictionary" and name in self._categories:
                field = with_categories(field, self._categories[name].values)
            fields.append(field)
            entry = {"name": name, "pandas_type": str(column.kind), "metadata": None, **column.entry}
            entries.append({**entry, "field_name": name, "numpy_type": extension or "object"})
        noted = {"index_columns": list(self._index or ()), "column_indexes": self._labels or [], "columns": entries}
        return dtypes, pa.schema(fields, {PANDAS: json.dumps({**noted, "pandas_version": "2.1.2"}).encode()})

    def _ordered(self) -> list[str]:
        names = self.names or []
        return [*(name for name in self._choose(names) or names if name in self._columns), *(self._index or ())]

    def _require_names(self, names: list[str], path: str) -> None:
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path!r} has two columns named {twice!r}; each needs a name of its own.")
        self._first = self._first or path
        self.names = require_same(self.names, names, self._first, path)

    def _require_index(self, index: list[str], path: str) -> None:
        if self._index is None:
            self._index, self._index_path = index, path
        elif self._index != index:
            has, has_none = (path, self._index_path) if index else (self._index_path, path)
            raise InputError(
                f"pandas has stored an index without a name in {has!r}, but not in {has_none!r}; all files of an input "
                "must have the same kind of index: write them with index=False, or name the index."
            )

    def _add(self, path: str, field: Any, entry: Mapping[str, Any], rows: int) -> None:
        import pyarrow as pa

        kind = type_without_view(field.type) if rows else pa.null()
        if pa.types.is_union(kind):
            raise InputError(
                f"the column {field.name!r} of {path!r} is of type {kind}, which pandas does not have; leave it out "
                "with columns."
            )
        extension = _extension_of(entry) if rows else None
        if pa.types.is_null(kind) and rows:
            self.facts.setdefault(field.name, ColumnFacts()).has_nulls = True
        column = self._columns.get(field.name)
        if column is None:
            self._columns[field.name] = _Column(kind, path, entry, extension)
            return
        common = common_type(column.kind, kind)
        if common is None:
            raise InputError(
                f"column {field.name!r} is of type {kind} in {path!r}, but of type {column.kind} in {column.path!r}; a "
                "column must have one type in all files of an input: convert the files, or leave the column out with "
                "columns."
            )
        if pa.types.is_null(column.kind):
            column.path, column.entry = path, entry or column.entry
        column.extension = _common_extension(column, kind, extension, common)
        column.kind = common


def types_with_nulls(kind: Any, facts: ColumnFacts) -> tuple[str | None, str | None]:
    """
    Return the pandas type of a column with missing values, if it differs from that of a column without.

    :return: a type for ``dtypes``, and a type for pandas' metadata; None: no such type is necessary.
    """
    from pyarrow import types

    if facts.has_nulls and types.is_integer(kind):
        if not facts.is_beyond:
            return "float64", None
        return None, "Int64" if types.is_signed_integer(kind) else "UInt64"
    return ("object" if facts.has_nulls and types.is_boolean(kind) else None), None


def note_extensions(schema: Any, extensions: Mapping[str, str]) -> Any:
    """Return a schema whose metadata says that pandas converts columns to its own types."""
    noted = {"index_columns": [], "column_indexes": [], **notes_of_pandas(schema)}
    others = [entry for entry in noted.get("columns", ()) if entry.get("field_name") not in extensions]
    told = [
        {"name": name, "field_name": name, "pandas_type": "int64", "numpy_type": extension, "metadata": None}
        for name, extension in extensions.items()
    ]
    return schema.with_metadata({PANDAS: json.dumps({**noted, "columns": [*others, *told]}).encode()})


def _fields_of(
    schema: Any, known: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], rows: int
) -> tuple[list[Any], list[str], bool]:
    """
    Return the columns of a file; those of a stored index come first if they have names.

    :return: the columns; the names of those that are an index without a name; whether an index is stored as a range.
    """
    import pyarrow as pa

    indices = known.get("index_columns", [])
    stored = [name for name in indices if isinstance(name, str) and name in schema.names]
    named = [name for name in stored if entries.get(name, {}).get("name") is not None]
    unnamed = [name for name in stored if name not in named]
    if all(pa.types.is_integer(schema.field(name).type) for name in unnamed):
        unnamed_kept: list[str] = []  # integers without a name are positions
    else:
        unnamed_kept = unnamed
    counted = [
        pa.field(str(index["name"]), pa.int64(), nullable=False)
        for index in indices
        if isinstance(index, dict)
        and index["name"] is not None
        and len(range(index["start"], index["stop"], index["step"])) == rows
    ]
    others = [field for field in schema if field.name not in stored]
    fields = [*map(schema.field, named), *counted, *others, *map(schema.field, unnamed_kept)]
    return fields, unnamed_kept, bool(counted)


def _extension_of(entry: Mapping[str, Any]) -> str | None:
    """Return the type of a column in pandas' metadata, if it is not a type of numpy; otherwise None."""
    import numpy as np

    noted = entry.get("numpy_type")
    if noted is None or entry.get("pandas_type") == "categorical" or str(noted).startswith(("datetime64", "category")):
        return None
    try:
        np.dtype(noted)
    except TypeError:
        return str(noted)
    return None


def _common_extension(column: _Column, kind: Any, extension: str | None, common: Any) -> str | None:
    """Return the pandas type that is noted with the common Arrow type; "": there are several; None: there is none."""
    noted = {
        dtype for dtype, own in ((column.extension, column.kind), (extension, kind)) if dtype and own.equals(common)
    }
    if column.extension == "" or len(noted) > 1:
        return ""
    return next(iter(noted), None)
