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
        elif rows.is_data_frame(elements) and self._common is not None:
            with contextlib.suppress(rows.BadResultError):  # without rows nothing can be lost
                self._common.agree(lambda content: (None, b"" if content else self._for_now(elements)))

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
        return frame if self._common is None else self._common.agree(lambda content: self._in_order(frame, content))

    def _in_order(self, frame: Any, content: bytes) -> tuple[Any, bytes]:
        """Return a DataFrame in the order of a revision of the layout, with b"", or else with the one to propose."""
        names = columns.names_of(frame)
        known: dict[str, Any] = json.loads(content) if content else {"for_now": True}
        if known.get("for_now"):
            return frame, self._describe(frame)
        order = known["columns"]
        return frame if names == order else frame.iloc[:, columns.positions_of(names, order)], b""

    def _for_now(self, frame: Any) -> bytes:
        """Return the header of a DataFrame without rows, which is used until there is one with rows."""
        return self._describe(self._choose(frame), for_now=True) if len(frame.columns) else b""

    def _describe(self, frame: Any, **marks: bool) -> bytes:
        content = {"columns": columns.names_of(frame), "header": self._text_of_header(frame), **marks}
        return json.dumps(content).encode()

    def _text_of_header(self, frame: Any) -> str:
        content = bytearray()
        rows.write_as_pandas(frame.iloc[:0], content.extend, {**self._options, "header": self._header})
        return content.decode(*rows.ENCODING)
