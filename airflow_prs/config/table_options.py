"""Checks of the options of a TabularDataset: they yield a sentence for each option that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_prs.wording import wrong

_SAMPLE = 'a,"B"\r\n1,\t2\n'

HEADERS = (True, False, "each")
COLUMNS_ALLOWED = "a list of the names of columns, each once"


def delimited_problems(separator: Any, header: Any, encoding: Any, comment: Any) -> Iterator[str]:
    """Check the options of delimited files."""
    if not _is_character(separator):
        yield wrong("separator", separator, "one character, no quote and no line break")
    if not any(header is allowed or (isinstance(header, str) and header == allowed) for allowed in HEADERS):
        yield wrong("header", header, "True or False, or 'each' where each file has columns of its own")
    yield from encoding_problems(encoding)
    if comment is not None and (not _is_character(comment) or comment == separator):
        yield wrong("comment", comment, "one character, no quote, no line break and not the separator")


def encoding_problems(encoding: Any) -> Iterator[str]:
    """Check the name of an encoding."""
    if not isinstance(encoding, str) or not _is_encoding(encoding):
        yield wrong("encoding", encoding, "an encoding of text that Python knows, such as 'utf-8' or 'cp1252'")


def columns_problems(columns: Any, *, are_numbered: bool = False) -> Iterator[str]:
    """
    Check the columns that were chosen.

    :param are_numbered: whether columns have numbers instead of names, as in a file without a header.
    """
    if columns is None:
        return
    kind: type = int if are_numbered else str
    is_list = isinstance(columns, list | tuple) and bool(columns)
    if not is_list or not all(type(name) is kind for name in columns) or len(set(columns)) < len(columns):
        allowed = "a list of the numbers of columns, from 0, each once" if are_numbered else COLUMNS_ALLOWED
        yield wrong("columns", columns, allowed)


def dtypes_problems(dtypes: Any) -> Iterator[str]:
    """Check that types are given as text; plan asks pandas what they mean."""
    is_mapping = isinstance(dtypes, Mapping)
    if dtypes is None or (is_mapping and all(isinstance(text, str) for pair in dtypes.items() for text in pair)):
        return
    yield wrong("dtypes", dtypes, "a dictionary of a column's name to a type of pandas, such as {'price': 'float64'}")


def partition_by_problems(keys: Any, *, has_names: bool) -> Iterator[str]:
    """
    Check the columns that a copy is to be partitioned by.

    :param has_names: whether columns have names.
    """
    if keys is None:
        return
    is_list = isinstance(keys, list | tuple) and bool(keys)
    if not is_list or not all(isinstance(key, str) and key for key in keys) or len(set(keys)) < len(keys):
        yield wrong("partition_keys of partition_by", keys, COLUMNS_ALLOWED)
    if not has_names:
        yield "header is False; allowed with partition_by: True or 'each', as its keys are names of columns"


def query_problems(sql: Any, conn_id: Any) -> Iterator[str]:
    """Check a query and its connection."""
    if not isinstance(sql, str) or not sql.strip():
        yield wrong("sql", sql, "a query")
    if not isinstance(conn_id, str) or not conn_id.strip():
        yield wrong("conn_id", conn_id, "the id of an Airflow connection")


def _is_character(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 1 and text not in '"\r\n\0'


def _is_encoding(name: str) -> bool:
    """Whether Python decodes text with this codec; there are others, such as rot13 and base64."""
    try:
        return _SAMPLE.encode(name).decode(name) == _SAMPLE
    except (LookupError, ValueError):
        return False
