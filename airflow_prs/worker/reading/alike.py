"""Arrow tables cast to the schema that plan has determined for all parts of an input."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from .dtypes import are_exact_as_floats  # noqa: TID252 - this package has another name in a worker process

_VIEWS = {"string_view": "large_string", "binary_view": "large_binary"}
"""Replacements for types that few functions of Arrow support."""

PANDAS = b"pandas"
"""Key of the metadata that pandas stores in a schema, such as the index."""

_CATEGORIES = b"airflow_prs.categories"


def read_schema(encoded: str) -> Any:
    """Return a schema that plan has written as text."""
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(b64decode(encoded)))


def notes_of_pandas(schema: Any) -> dict[str, Any]:
    """Return the metadata that pandas has stored in a schema; empty: there is none."""
    notes: dict[str, Any] = json.loads((schema.metadata or {}).get(PANDAS, b"{}"))
    return notes


def with_floats(schema: Any, dtypes: dict[str, str]) -> Any:
    """Return a schema in which columns are float64 if ``dtypes`` says so."""
    import pyarrow as pa

    fields = [field.with_type(pa.float64()) if dtypes.get(field.name) == "float64" else field for field in schema]
    return pa.schema(fields, schema.metadata)


def type_without_view(kind: Any) -> Any:
    """Return the type that ``without_views`` gives a column; the same type if it has no views."""
    import pyarrow as pa
    from pyarrow import types

    if "_view" not in str(kind):
        return kind
    if str(kind) in _VIEWS:
        return getattr(pa, _VIEWS[str(kind)])()
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(type_without_view(kind.value_type)))
    if types.is_struct(kind):
        fields = [kind.field(position) for position in range(kind.num_fields)]
        return pa.struct([field.with_type(type_without_view(field.type)) for field in fields])
    return kind


def without_views(table: Any) -> Any:
    """Return a table without view types, which some functions of Arrow do not support."""
    for position, field in enumerate(table.schema):
        kind = type_without_view(field.type)
        if kind is not field.type:
            table = table.set_column(position, field.with_type(kind), cast(table.column(position), kind))
    return table


def with_counted_index(table: Any, name: str, offset: int) -> Any:
    """
    Return the table with a range index as a column, if pandas has stored one of this name.

    Pandas stores only start and step of a range index.

    :param offset: position of the first row in its file.
    """
    import numpy as np

    for index in notes_of_pandas(table.schema).get("index_columns", ()):
        if isinstance(index, dict) and index["name"] is not None and str(index["name"]) == name:
            first = index["start"] + offset * index["step"]
            values = np.arange(len(table), dtype=np.int64) * index["step"] + first
            return table.append_column(name, [values])
    return table


def with_categories(field: Any, categories: Any) -> Any:
    """Return a field whose metadata holds the categories that the column has in all parts."""
    import pyarrow as pa

    batch = pa.RecordBatch.from_arrays([categories], names=[""])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return field.with_metadata({_CATEGORIES: sink.getvalue().to_pybytes()})


def categories_in(schema: Any) -> dict[str, Any]:
    """Return the categories that ``with_categories`` has stored, by column."""
    import pyarrow as pa

    noted = {field.name: (field.metadata or {}).get(_CATEGORIES) for field in schema}
    return {
        name: pa.ipc.open_stream(written).read_next_batch().column(0)
        for name, written in noted.items()
        if written is not None
    }


def like(table: Any, schema: Any, categories: dict[str, Any]) -> Any:
    """
    Return a table with the columns and types of a schema.

    Lists, structs and decimals keep their own types, because pandas has one type for each of these families.

    :param categories: categories of the columns that have the same ones in all parts.
    """
    import pyarrow as pa

    columns = [
        _like(table.column(field.name), field.type)
        if field.name not in categories
        else _categorized(table.column(field.name), field.type, categories[field.name])
        for field in schema
    ]
    fields = [field.with_type(column.type) for field, column in zip(schema, columns)]  # noqa: B905 - Python 3.9
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, schema.metadata))


def family_of(kind: Any) -> str | None:
    """Return the name of a family of Arrow types for which pandas has one type; None: the type is in no family."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list"
    families = (types.is_struct, types.is_map, types.is_decimal, types.is_dictionary)
    return next((is_family.__name__ for is_family in families if is_family(kind)), None)


def are_rounded_inside(column: Any) -> bool:
    """Whether pandas would round whole numbers in lists or structs, because some of them are missing."""
    return family_of(column.type) in _NESTED and any(map(_are_rounded, column.chunks))


_NESTED = ("list", "is_struct", "is_map")


def _are_rounded(array: Any) -> bool:
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_int64(array.type) or types.is_uint64(array.type):
        return bool(array.null_count) and not are_exact_as_floats(*pc.min_max(array).as_py().values())
    if family_of(array.type) not in _NESTED:
        return False
    if types.is_map(array.type):
        return _are_rounded(array.keys) or _are_rounded(array.items)
    inside = array.flatten()
    return any(map(_are_rounded, inside if types.is_struct(array.type) else [inside]))


def _like(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    if column.type.equals(kind) or (family_of(kind) and family_of(column.type) == family_of(kind)):
        return column
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), kind)], kind)
    return cast(column, kind)


def _categorized(column: Any, kind: Any, categories: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    made = pa.dictionary(pa.int32(), categories.type, kind.ordered)
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), made)], made)
    chunks = []
    for chunk in column.chunks:
        places = pc.index_in(cast(chunk.dictionary, categories.type), value_set=categories)
        chunks.append(pa.DictionaryArray.from_arrays(places.take(chunk.indices), categories, ordered=kind.ordered))
    return pa.chunked_array(chunks, made)


def cast(column: Any, kind: Any) -> Any:
    """Return a column of another type, value by value where this version of pyarrow knows no other way."""
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):  # views and new fields of structs, in old versions
        return pa.chunked_array([pa.array(column.to_pylist(), kind)], kind)
