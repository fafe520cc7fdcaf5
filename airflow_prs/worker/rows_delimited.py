"""Rows of DataFrames as delimited text, with one header for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

# Relative, as this package has another name where it is at work.
from . import columns, layout, rows  # noqa: TID252

WANTED_BY = "append_row_format 'csv'"


class DelimitedRows:
    """
    Writes DataFrames as pandas' to_csv does; the header is laid down for merge, which puts it at the top.

    :param options: arguments of to_csv.
    :param common: takes the columns and the header; None: columns may differ, and there is no header.
    :param takes_lines: whether elements of a list are written as lines, as they are.
    """

    def __init__(self, options: Mapping[str, Any], common: layout.Layout | None, *, takes_lines: bool) -> None:
        self._options = {name: value for name, value in options.items() if name not in ("header", "columns")}
        self._header = options.get("header", True)
        self._chosen = options.get("columns")
        self._common = common
        self._takes_lines = takes_lines

    def __call__(self, elements: Any, write: Callable[[bytes], Any]) -> None:
        """Write what run() returned."""
        elements = rows.as_frame(elements)
        if self._takes_lines and not rows.is_data_frame(elements):
            rows.write_lines(elements, write)
        elif len(elements):
            frame = self._arrange(self._choose(columns.frame_of(elements, WANTED_BY)))
            rows.write_frame(frame, write, {**self._options, "header": False})

    def _choose(self, frame: Any) -> Any:
        if self._chosen is None:
            return frame
        for name in self._chosen:
            if name not in frame.columns:
                raise rows.BadResultError(
                    f"run() returned a DataFrame without the column {name!r}, which {rows.SETTINGS} asks for"
                )
        return frame[self._chosen]

    def _arrange(self, frame: Any) -> Any:
        """Give the columns the order of the first mini-batch that had rows."""
        if self._common is None:
            return frame
        names = columns.names_of(frame)
        while (known := self._common.newest()) is None:
            self._common.propose(json.dumps({"columns": names, "header": self._text_of_header(frame)}).encode())
        order = json.loads(known)["columns"]
        return frame if names == order else frame.iloc[:, columns.positions_of(names, order)]

    def _text_of_header(self, frame: Any) -> str:
        parts: list[bytes] = []
        rows.write_as_pandas(frame.iloc[:0], parts.append, {**self._options, "header": self._header})
        return b"".join(parts).decode(*rows.ENCODING)
