"""
The search for the record that pandas cannot read, after it has failed to read a text.

The parser of pandas does not count the lines of the file, so the search bisects the text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from .lines import LineError, breaks_in  # noqa: TID252 - this package has another name where it is at work

_COUNTED = re.compile(r"(?<=fields) in line \d+|(?<=inside string) starting at row \d+| at position \d+$")
"""Numbers in messages of pandas that count lines of the part that it read, not of the file."""


def find(
    text: str, read: Callable[[str], Any], *, separator: str, comment: str | None, has_header: bool
) -> tuple[int, str, Exception] | None:
    """
    Return the first record that cannot be read; the search reads about as much text as the text has.

    :param read: reads a text; the search passes the header, the first record and any of the others.
    :return: the number of its line, a text whose last record it is, and the exception; None: no record fails.
    """
    starts = [*_starts(text, separator, comment), len(text)]
    first = 1 if has_header else 0
    if len(starts) < first + 2:
        return None
    # The first record determines how many values all others may have, so it is part of every text.
    head = text[: starts[first + 1]]
    if error := _failure(read, head):
        return _line_behind(text[: starts[first]]), head, error
    begin, end = first + 1, len(starts) - 1
    while end - begin > 1:
        middle = (begin + end) // 2
        if _failure(read, head + text[starts[begin] : starts[middle]]):
            end = middle
        else:
            begin = middle
    bad = head + text[starts[begin] : starts[begin + 1]] if begin < end else head
    error = _failure(read, bad)
    return None if error is None else (_line_behind(text[: starts[begin]]), bad, error)


def problem_of(
    number: int,
    bad: str,
    error: Exception,
    read: Callable[..., Any],
    dtypes: dict[Any, str],
) -> LineError:
    """
    Return the error for the last record of a text; it names the column and the value if a type cannot hold the value.

    :param number: line of the record in the text that was to be read.
    :param bad: the text.
    :param error: the exception that reading the text raised.
    :param read: reads a text with the given types.
    :param dtypes: type of each column.
    """
    import pandas as pd

    # Remove numbers that do not count lines of the file.
    words = _COUNTED.sub("", " ".join(str(error).split()))
    is_value = not isinstance(error, (pd.errors.ParserError, Warning)) and "the column " not in words
    for name, kind in dtypes.items() if is_value else ():
        if _failure(functools.partial(read, dtypes={str(name): kind}), bad):
            value = read(bad, {str(name): "str"})[name].iloc[-1]
            shown = "a missing value" if pd.isna(value) else repr(value)
            words = (
                f"{shown} in the column {name!r} is not read as {kind}: {words}; choose another type for the column "
                "with dtypes, such as 'str', and convert it in run()"
            )
            break
    return LineError(number, f"cannot be read: {type(error).__name__}: {words}")


def _failure(read: Callable[[str], Any], text: str) -> Exception | None:
    try:
        read(text)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the parsers of pandas raise exceptions of any type
        return error
    return None


def _line_behind(text: str) -> int:
    return breaks_in(text.encode("utf-8", "replace")) + 1


def _starts(text: str, separator: str, comment: str | None) -> list[int]:
    """Return where records start by the rules of pandas' C parser, which inputs.text.scanning describes."""
    mark = re.escape(comment or "")
    plain = rf"[^{re.escape(separator)}\r\n{mark}]*"
    blank = "[" + "".join({" ", "\t"} - {separator}) + "]"
    ends = r"(?:\r\n|\r|\n|\Z)"
    remark = rf"{mark}[^\r\n]*" if comment else ""
    quoted = rf'"[^"]*(?:""[^"]*)*(?:"|\Z)(?:{mark})?'  # a comment mark directly after it is text
    field = rf"(?:{quoted})?{plain}"
    skipped = rf"{blank}*(?:\r\n|\r|\n)|{blank}+\Z" + (rf"|{remark}{ends}(?!\Z)|{remark}\Z" if comment else "")
    record = rf"{field}(?:{re.escape(separator)}{field})*(?:{remark})?{ends}"
    found = re.finditer(rf"(?:{skipped})*({record})", text)
    return [one.start(1) for one in found if one.start(1) < len(text)]
