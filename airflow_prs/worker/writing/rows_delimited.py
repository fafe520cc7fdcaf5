"""Rows as delimited text, with one header for all mini-batches."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

# Relative, because this package has another name in a worker process.
from . import columns, layout, rows  # noqa: TID252

WANTED_BY = "append_row_format 'csv'"


class DelimitedRows:
    """
    Writes DataFrames as pandas' to_csv does. The header goes into the layout; merge writes it at the top of the result.

    :param options: arguments of to_csv.
    :param common: the layout for columns and header; None: columns may differ, and there is no header.
    :param takes_lines: whether the elements of a list are written as lines of text.
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
        elif rows.is_data_frame(elements) and self._common is not None and not self._common.is_known:
            with contextlib.suppress(rows.BadResultError):  # without rows nothing can be lost
                self._propose_for_now(elements, self._common)

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
        """Return a DataFrame whose columns have the order of the first mini-batch that had rows."""
        if self._common is None:
            return frame
        names = columns.names_of(frame)
        while (order := self._known_columns(self._common)) is None:
            self._common.propose(self._describe(frame))
        return frame if names == order else frame.iloc[:, columns.positions_of(names, order)]

    @staticmethod
    def _known_columns(common: layout.Layout) -> list[str] | None:
        known = common.newest()
        content: dict[str, Any] = {} if known is None else json.loads(known)
        return None if content.get("for_now") else content.get("columns")

    def _propose_for_now(self, frame: Any, common: layout.Layout) -> None:
        """Use the header of a DataFrame without rows until there is one with rows."""
        if len(frame.columns) and common.newest() is None:
            common.propose(self._describe(self._choose(frame), for_now=True))

    def _describe(self, frame: Any, **marks: bool) -> bytes:
        content = {"columns": columns.names_of(frame), "header": self._text_of_header(frame), **marks}
        return json.dumps(content).encode()

    def _text_of_header(self, frame: Any) -> str:
        content = bytearray()
        rows.write_as_pandas(frame.iloc[:0], content.extend, {**self._options, "header": self._header})
        return content.decode(*rows.ENCODING)
