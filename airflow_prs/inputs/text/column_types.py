"""
Infer the types of the columns of a delimited input: those that pandas would find if it read all files together.

Arrow parses each block in a thread. pandas parses it if the text is not plain, or Arrow cannot read it. The type of a
column follows from its values in all blocks.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any

from airflow_prs.inputs.columns import Names
from airflow_prs.inputs.text.seen import MISSING_WORDS, Seen, look_at

_MOST_THREADS = 4

_FILTERING_WARNINGS = Lock()
"""The filters of warnings belong to the process, not to a thread."""


class ColumnTypes:
    """
    Infers the types of columns from blocks of records. A context manager, which ends its threads.

    :param arguments: returns what pandas needs to read text in an encoding.
    :param given: columns whose types the author wrote.
    """

    def __init__(self, arguments: Callable[[str], Mapping[str, Any]], given: Iterable[str] = ()) -> None:
        self._arguments = arguments
        self._given = frozenset(given)
        self._seen: dict[str | int, Seen] = {}
        self._has_rows = False
        self._looking: deque[tuple[Names, Future[dict[str | int, Seen]] | None]] = deque()
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads)

    def __enter__(self) -> ColumnTypes:  # noqa: PYI034 - Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def feed(self, read_text: Callable[[], bytes], names: Names, encoding: str, *, is_plain: bool) -> None:
        """
        Add complete records.

        Records that cannot be read are ignored: only their mini-batches fail.

        :param read_text: returns the text of the records.
        :param names: the columns of the text, in its order; columns known from other files are missing here.
        :param is_plain: whether all fields are simple, or quoted from their beginning to their end.
        """
        wanted = [place for place, name in enumerate(names) if self._is_open(name)]
        if not wanted and not (self._has_rows and self._seen.keys() <= set(names)):
            wanted = [0]  # to know whether there are rows
        future = None
        if wanted:
            known = [self._seen.get(names[place], Seen()) for place in wanted]
            future = self._pool.submit(self._look, read_text(), names, encoding, wanted, known, is_plain=is_plain)
        self._looking.append((names, future))
        if not self._seen:
            self._take_all()
        elif len(self._looking) > 2 * self._threads:
            self._take(*self._looking.popleft())

    def types(self) -> dict[str, str]:
        """Return the type of each column that was seen."""
        self._take_all()
        found = {str(name): seen.dtype for name, seen in self._seen.items() if str(name) not in self._given}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _is_open(self, name: str | int) -> bool:
        """Return whether more rows could change a column's type."""
        return str(name) not in self._given and not self._seen.get(name, Seen()).is_text

    def _take_all(self) -> None:
        while self._looking:
            self._take(*self._looking.popleft())

    def _take(self, names: Names, future: Future[dict[str | int, Seen]] | None) -> None:
        """Add what the next records hold."""
        for name in names:
            self._seen.setdefault(name, Seen(has_missing=self._has_rows))
        found = {} if future is None else future.result()
        if found or future is None:
            self._has_rows = True
            found.update(dict.fromkeys(self._seen.keys() - set(names), Seen(has_missing=True)))
        for name, seen in found.items():
            self._seen[name] = self._seen[name].followed_by(seen)

    def _look(
        self, text: bytes, names: Names, encoding: str, wanted: list[int], known: list[Seen], *, is_plain: bool
    ) -> dict[str | int, Seen]:
        """
        Return what some columns of a text hold; empty: it has no rows.

        :param wanted: their positions.
        :param known: what rows before the text hold in them.
        """
        arguments = self._arguments(encoding)
        columns = _read_with_arrow(text, arguments["sep"], len(names), wanted) if is_plain else None
        if columns is None:
            columns = _read_with_pandas(text, names, wanted, arguments)
        return {
            names[place]: look_at(words, seen)
            for place, words, seen in zip(wanted, columns, known, strict=True)
            if len(words)
        }


def _read_with_arrow(text: bytes, separator: str, width: int, wanted: list[int]) -> list[Any] | None:
    """Return the words of some columns; None: Arrow cannot read this text."""
    import pyarrow as pa
    from pyarrow import csv

    names = list(map(str, range(width)))
    chosen = [names[place] for place in wanted]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(chosen, pa.string()),
                include_columns=chosen,
                check_utf8=False,
                null_values=list(MISSING_WORDS),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None
    return list(table.columns)


def _read_with_pandas(text: bytes, names: Names, wanted: list[int], arguments: Mapping[str, Any]) -> list[Any]:
    """Return the words of some columns; no words if pandas cannot read the text either."""
    import pandas as pd
    import pyarrow as pa

    options: dict[str, Any] = {
        **arguments,
        "header": None,
        "names": names,
        "index_col": False,
        "dtype": object,
        "encoding_errors": "replace",
        "on_bad_lines": "skip",
    }
    frame = pd.DataFrame(columns=list(names), dtype=object)
    with _FILTERING_WARNINGS, warnings.catch_warnings(), suppress(pd.errors.EmptyDataError):
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(io.BytesIO(text), usecols=wanted, **options)
        except pd.errors.ParserError:  # which pandas raises where all records are short
            with suppress(pd.errors.ParserError):
                frame = pd.read_csv(io.BytesIO(text), **options)
    return [pa.chunked_array([pa.array(frame[names[place]], pa.string(), from_pandas=True)]) for place in wanted]
