"""JSON lines: read once, to count the records, cut between them, and infer the columns and their types."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from math import isnan, nan
from typing import Any

from airflow_prs.inputs.columns import Columns, require_known, require_types
from airflow_prs.inputs.cutting import TableCut
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import JsonLinesSource, MiniBatchSize
from airflow_prs.inputs.text.cutting import RecordCutter
from airflow_prs.inputs.text.opening import open_text
from airflow_prs.inputs.text.records import add_pieces, complete_lines
from airflow_prs.worker.reading.dtypes import are_exact_as_floats
from airflow_prs.worker.reading.json_table import JsonTable, is_blank, read_object
from airflow_prs.worker.reading.lines import line_feeds_in

MARKS = "\n"
"""The characters that separate records."""


def cut_json_lines_files(source: JsonLinesSource, listing: Listing, size: MiniBatchSize) -> tuple[TableCut, Columns]:
    """
    Cut files with a JSON object on each line into mini-batches.

    :param size: bytes or lines of a mini-batch.
    :return: the mini-batches, and the columns of all lines.
    :raises InputError: if a file cannot be read, or no line has a column that ``dtypes`` names.
    :raises ConfigError: if pandas cannot read a type of ``dtypes``.
    """
    given = dict(source.dtypes)
    require_types(source.name, given, _read_value)
    cut = TableCut(source.name, listing.paths)
    values = _Values()
    with closing(listing.files()) as files:
        for number, file in enumerate(files):
            with open_text(file, source.encoding, MARKS) as text:
                cutter = RecordCutter(size.count, is_bytes=size.is_bytes, count=line_feeds_in)
                end = 0
                for lines, end in complete_lines(text, max_record_size=source.max_record_size):
                    starts, objects = _read(lines, end - len(lines), text.encoding)
                    cutter.feed(starts, lines, end)
                    values.feed(objects)
                add_pieces(cut, number, cutter.finish(end), cutter.lines, is_whole=text.is_whole)
    require_known(source.name, given, values.names or None)
    return cut, Columns(values.names or None, values.dtypes() | given)


def _read_value(value: str, dtype: str) -> object:
    line = json.dumps({"a": int(value) if value.isdigit() else value == "True" or value})
    return JsonTable({"columns": ["a"], "dtypes": {"a": dtype}})(line.encode(), is_whole=True)


def _read(lines: bytes, begin: int, encoding: str) -> tuple[list[int], list[dict[str, Any]]]:
    """
    Return the records of some lines. An invalid record counts, so that only its mini-batch fails.

    :param begin: position of the first line in the file.
    :return: position of each record, and the objects of the valid ones.
    """
    starts, objects = [], []
    for line in lines.split(b"\n"):
        try:
            text = line.decode(encoding)
            if not is_blank(text):
                starts.append(begin)
                objects.append(read_object(text))
        except UnicodeDecodeError:
            starts.append(begin)
        except ValueError:
            pass  # counted above; the worker process raises the error with the line number
        begin += len(line) + 1
    return starts, objects


_ABSENT = object()
"""The value of a column in a line that does not have it."""


class _Values:
    """Keeps a few values of each column. pandas finds the same type for them as for all values."""

    def __init__(self) -> None:
        self._found: dict[str, dict[object, Any]] = {}
        self._has_seen_rows = False

    @property
    def names(self) -> list[str]:
        """Return the columns in the order of their first appearance."""
        return list(self._found)

    def feed(self, records: Sequence[dict[str, Any]]) -> None:
        """Add the objects of some lines."""
        absent: dict[object, Any] = {type(_ABSENT): _ABSENT} if self._has_seen_rows else {}
        for record in records:
            if not record.keys() <= self._found.keys():
                for name in record:
                    self._found.setdefault(name, dict(absent))
        for name, found in self._found.items():
            _keep(found, [record.get(name, _ABSENT) for record in records])
        self._has_seen_rows |= bool(records)

    def dtypes(self) -> dict[str, str]:
        """Return the pandas type of each column."""
        return {name: _dtype_of(list(found.values())) for name, found in self._found.items()}


def _keep(found: dict[object, Any], values: Sequence[Any]) -> None:
    """Keep one value of each kind."""
    for kind in set(map(type, values)):
        if kind is int:
            integers = [value for value in values if type(value) is int]
            for value in (min(integers), max(integers)):
                found.setdefault(("int", _range_of(value)), value)
        elif kind is float:
            are_nan = set(map(isnan, (value for value in values if type(value) is float)))
            found.update({("float", is_nan): nan if is_nan else 0.5 for is_nan in are_nan})
        elif kind not in found:
            found[kind] = next(value for value in values if type(value) is kind)


def _range_of(number: int) -> int:
    return bisect_right((-(2**63), -(2**53), 0, 2**53 + 1, 2**63, 2**64), number)


def _dtype_of(values: Sequence[Any]) -> str:
    import pandas as pd

    integers = [value for value in values if type(value) is int]
    if integers and len(integers) < len(values) == len(integers) + sum(map(_is_missing, values)):
        return _type_with_missing(min(integers), max(integers))
    records = [{"other": 0} if value is _ABSENT else {"column": value} for value in values]
    return str(pd.DataFrame([*records, records[0]])["column"].dtype)


def _type_with_missing(lowest: int, highest: int) -> str:
    """
    Return the type of a column of integers of which some are missing.

    pandas converts them to floats; that stays so if no number is rounded. Old versions of pandas also convert integers
    beyond 64 bits, which are objects here.
    """
    if are_exact_as_floats(lowest, highest):
        return "float64"
    if lowest >= -(2**63) and highest < 2**63:
        return "Int64"
    return "UInt64" if lowest >= 0 and highest < 2**64 else "object"


def _is_missing(value: Any) -> bool:
    return value is _ABSENT or value is None or (type(value) is float and isnan(value))
