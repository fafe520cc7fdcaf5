"""
Which types the columns of a delimited input have: those that pandas would find if it read all files in one piece.

Each block is read by pandas, and what it found there is remembered in a few bits a column. The types follow from the
bits of all blocks, by the rules of pandas: an integer beside a missing value is a float, a word among numbers makes
text of them all. Most blocks bring nothing new: Arrow confirms that in threads, and pandas reads only the columns for
which it does not.

In two places the rules of pandas are left. Beside missing values, whole numbers that a float would round are Int64. And
whole numbers that only uint64 holds are text there, in which missing values are missing; pandas makes them empty text.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_prs.inputs.columns import Names
from airflow_prs.inputs.text.confirming import Confirmed, Kind, confirm
from airflow_prs.inputs.text.seen import (
    Seen,
    bits_of,
    is_text,
    kind_of,
    may_be_whole,
    type_of,
    with_column,
    with_numbers,
)

_MOST_THREADS = 4
_TRIES_IN_VAIN = 3
"""Stop asking Arrow about a column once its misses exceed its hits by this many."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """
    Records that were not looked at yet.

    :param names: of their columns.
    :param text: None: no column is open.
    :param expected: what Arrow is to confirm.
    :param answer: what it says.
    """

    names: Names
    encoding: str
    text: bytes | None
    expected: Mapping[str | int, Kind]
    answer: Future[dict[str, Confirmed] | None] | None


class ColumnTypes:
    """
    Gathers what the columns of an input hold; a context manager, as long as records come.

    :param arguments: says in the words of pandas how text in an encoding is read.
    :param given: columns whose types are not to be found out.
    """

    def __init__(self, arguments: Callable[[str], Mapping[str, Any]], given: Iterable[str] = ()) -> None:
        self._arguments = arguments
        self._given = frozenset(given)
        self._seen: dict[str | int, Seen] = {}
        self._in_vain: Counter[str | int | None] = Counter()
        self._waiting: deque[_Waiting] = deque()
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads)

    def __enter__(self) -> ColumnTypes:  # noqa: PYI034 - Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def feed(self, read_text: Callable[[], bytes], names: Names, encoding: str, *, is_plain: bool) -> None:
        """
        Take whole records.

        Records that cannot be read say nothing: their mini-batch alone fails.

        :param read_text: gives them.
        :param names: the columns of the text, in its order; columns known from other files are missing here.
        :param is_plain: whether there is nothing but simple fields and those that are quoted as a whole.
        """
        if not self._seen:
            self._look_at_all()
        text = read_text() if any(map(self._is_open, names)) else None
        expected = self._expected(names) if is_plain and text else {}
        self._waiting.append(_Waiting(names, encoding, text, expected, self._ask(text, names, expected)))
        if len(self._waiting) > 2 * self._threads:
            self._look_at(self._waiting.popleft())

    def _ask(
        self, text: bytes | None, names: Names, expected: Mapping[str | int, Kind]
    ) -> Future[dict[str, Confirmed] | None] | None:
        if text is None or not expected:
            return None
        by_name = {str(name): kind for name, kind in expected.items()}
        return self._pool.submit(confirm, text, self._arguments("utf-8")["sep"], list(map(str, names)), by_name)

    def _expected(self, names: Names) -> dict[str | int, Kind]:
        """Say of which kind the columns are until now, as far as that can be confirmed."""
        if self._in_vain[None] >= _TRIES_IN_VAIN:
            return {}
        kinds = {name: kind_of(self._seen.get(name, Seen.NOTHING)) for name in names if self._is_open(name)}
        return {name: kind for name, kind in kinds.items() if kind is not None and self._in_vain[name] < _TRIES_IN_VAIN}

    def _look_at_all(self) -> None:
        while self._waiting:
            self._look_at(self._waiting.popleft())

    def _look_at(self, records: _Waiting) -> None:
        """Add what records hold."""
        for absent in self._seen.keys() - set(records.names):
            self._seen[absent] |= Seen.MISSING
        before = Seen.MISSING if self._seen_rows() else Seen.NOTHING
        for name in records.names:
            self._seen.setdefault(name, before)
        if records.text is None:
            return
        confirmed = self._confirmed(records)
        names = records.names
        wanted = [at for at in range(len(names)) if self._is_open(names[at]) and str(names[at]) not in confirmed]
        if wanted:
            self._look_with_pandas(records, records.text, wanted)
        self._count_in_vain(records, confirmed)

    def _look_with_pandas(self, records: _Waiting, text: bytes, wanted: list[int]) -> None:
        """
        Add what some columns hold.

        :param wanted: their positions.
        """
        frame = self._read(records, text, wanted)
        doubtful = []
        for position in wanted if len(frame) else ():
            name = records.names[position]
            if may_be_whole(self._seen[name], frame[name]):
                doubtful.append(position)
            else:
                self._seen[name] = with_column(self._seen[name], frame[name])
        if doubtful:
            words = self._read(records, text, doubtful, dtype=object)
            for name in map(records.names.__getitem__, doubtful):
                self._seen[name] = with_numbers(self._seen[name], words[name])

    def _confirmed(self, records: _Waiting) -> Collection[str]:
        """Add what Arrow has confirmed, and name these columns."""
        if records.answer is None:
            return ()
        confirmed = records.answer.result()
        self._count(None, in_vain=confirmed is None)
        if confirmed is None:
            return ()
        for name, kind in records.expected.items():
            if (found := confirmed.get(str(name))) is not None:
                self._seen[name] |= bits_of(found, kind)
        return confirmed

    def _count_in_vain(self, records: _Waiting, confirmed: Collection[str]) -> None:
        """Note the columns that pandas finds as they were, though Arrow could not confirm them."""
        for name, kind in records.expected.items():
            self._count(name, in_vain=str(name) not in confirmed and kind_of(self._seen[name]) is kind)

    def _count(self, name: str | int | None, *, in_vain: bool) -> None:
        """
        Count what was asked in vain less what was not: where that becomes the rule, Arrow is not asked any more.

        :param name: of a column; None: Arrow made nothing of the text.
        """
        self._in_vain[name] = self._in_vain[name] + 1 if in_vain else max(0, self._in_vain[name] - 1)

    def settle(self) -> dict[str, str]:
        """Give the type of each column that was seen."""
        self._look_at_all()
        found = {str(name): type_of(seen) for name, seen in self._seen.items() if str(name) not in self._given}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _seen_rows(self) -> bool:
        return any(self._seen.values())

    def _is_open(self, name: str | int) -> bool:
        """Whether more rows could change a column's type."""
        return str(name) not in self._given and not is_text(self._seen.get(name, Seen.NOTHING))

    def _read(self, records: _Waiting, text: bytes, wanted: list[int], **more: Any) -> Any:
        """Read some columns; without a row if pandas makes nothing of the text."""
        import pandas as pd

        arguments: dict[str, Any] = {
            **self._arguments(records.encoding),
            "header": None,
            "names": records.names,
            "index_col": False,
            "low_memory": False,
            "encoding_errors": "replace",
            "on_bad_lines": "skip",
            **more,
        }
        with warnings.catch_warnings(), suppress(pd.errors.EmptyDataError):
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            # With usecols pandas takes no text in which all records are short.
            for usecols in (wanted, None):
                with suppress(pd.errors.ParserError):
                    return pd.read_csv(io.BytesIO(text), usecols=usecols, **arguments)
        return pd.DataFrame()
