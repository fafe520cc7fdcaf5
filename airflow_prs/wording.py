"""Words that messages share: about wrong and unknown values, counts, durations, and commands for a shell."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from typing import Any

HOW_TO_GO_ON = "What to do next:"
"""Begins the last paragraph of an error, which is different in Airflow and in a shell."""

_PRECISE_BELOW_S = 10
"""Shorter durations have a decimal."""

_MINUTES_FROM_S = 100
"""Shorter durations are in seconds."""

LONGEST_SHOWN = 100
"""The most characters of a value that an error shows."""


def shown(value: Any) -> str:
    """Return the repr of a value for an error, cut if it is too long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def command(*words: str) -> str:
    """Return a command for a shell, such as ``airflow-prs show '/my runs'``."""
    return shlex.join(("airflow-prs", *words))


def counted(count: int, one: str, several: str | None = None) -> str:
    """
    Return a number and its noun, such as ``1 shard`` and ``2 shards``.

    :param several: the plural; None: with an s.
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {several or one + 's'}"


def duration(seconds: float) -> str:
    """Return a duration in words, such as ``0.5 seconds`` or ``1 hour 20 minutes``."""
    if seconds < _PRECISE_BELOW_S:
        return f"{seconds:.1f} seconds"
    left = round(seconds)
    for one, size, smaller, part in (("day", 86400, "hour", 3600), ("hour", 3600, "minute", 60)):
        if left >= size:
            rest = left % size // part
            return counted(left // size, one) + (f" {counted(rest, smaller)}" if rest else "")
    return counted(round(left / 60), "minute") if left >= _MINUTES_FROM_S else counted(left, "second")


def wrong(name: str, value: Any, allowed: str) -> str:
    """Return the message that a value is wrong, with the allowed values."""
    return f"{name} is {shown(value)}; allowed: {allowed}"


def unknown(name: Any, known: Iterable[str], *, what: str) -> str:
    """
    Return the message that a name is unknown, with the most similar known name, or with all of them.

    :param what: what the name should be, such as ``parameter of ParallelRunConfig``.
    """
    names = sorted(known)
    near = nearest(str(name), names)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"{name} is no {what}; {hint}"


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """
    Return the known name that is most similar to a misspelled one; None: none is similar enough.

    :param likeness: the least similarity, from 0 (anything) to 1 (the same name).
    """
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=likeness)
    return found[0] if found else None
