"""How a wrong value is put in words, the same way for every parameter."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

HOW_TO_GO_ON = "What to do next:"
"""Begins the last paragraph of the words for a red box; a shell has its own."""

LONGEST_SHOWN = 100
"""Characters of a value that an error shows."""


def shown(value: Any) -> str:
    """Show a value as an error does: its repr, cut where it would bury the message."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def wrong(name: str, value: Any, allowed: str) -> str:
    """Say that a value is wrong, and what would be right."""
    return f"{name} is {shown(value)}; allowed: {allowed}"


def unknown(name: Any, known: Iterable[str], *, what: str) -> str:
    """
    Say that a name is unknown, with the nearest known one or all of them.

    :param what: what the name should have been, such as ``parameter of ParallelRunConfig``.
    """
    names = sorted(known)
    near = nearest(str(name), names)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"{name} is no {what}; {hint}"


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """
    Find the known name that a misspelt one stands for.

    :param likeness: between 0 (anything) and 1 (the same).
    """
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=likeness)
    return found[0] if found else None
