"""Globs that are matched name by name, while folders are walked."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache

from airflow_prs.records import RUNS

_MAGIC = re.compile(r"[*?\[]")
_NOT_HIDDEN = r"(?!\.)"
_NOT_ASIDE = r"(?![._])"
_NOT_ASIDE_OR_KEY = r"(?!\.|_[^=]*\Z)"
_NO_RUNS = rf"(?!{re.escape(RUNS)}\Z)"
_ANY = r"(?s:.+)\Z"


def has_magic(segment: str) -> bool:
    """Return whether a segment of a path is a pattern."""
    return _MAGIC.search(segment) is not None


class Glob:
    """
    Matches a glob against the names of a path, one name after the other, as an automaton.

    A state is the set of positions of the segments that may match the next name. A name that begins with "." matches
    only a segment that itself begins with "." or "_". The names of run folders match no segment.

    :param segments: segments of the glob.
    :param for_tables: whether names that begin with "_" are treated like those with ".", except folders ``key=value``.
        Other engines write files beside tables under such names, for example ``_SUCCESS``.
    :ivar start: the state before the first name.
    :ivar has_met_folder: whether the entire glob matched a folder.
    """

    def __init__(self, segments: tuple[str, ...], *, for_tables: bool = False) -> None:
        left_out = (_NOT_ASIDE, _NOT_ASIDE_OR_KEY) if for_tables else (_NOT_HIDDEN, _NOT_HIDDEN)
        self._matches, self._folder_matches = ([_matcher(segment, out) for segment in segments] for out in left_out)
        self._is_any_depth = tuple(segment == "**" for segment in segments)
        self._last = len(segments) - 1
        self.start = _with_skipped(frozenset({0}), self._is_any_depth)
        self.has_met_folder = False

    def takes(self, state: frozenset[int]) -> Callable[[str], object]:
        """Return a function that tells whether the entire glob matches with a file's name as the last one."""
        return self._matches[self._last] if self._last in state else _takes_none

    def enters(self, name: str, state: frozenset[int]) -> frozenset[int] | None:
        """Return the state after a folder's name; None: nothing in the folder can match."""
        ahead = set()
        for position in state:
            if position <= self._last and self._folder_matches[position](name):
                is_any, is_last = self._is_any_depth[position], position == self._last
                ahead |= {position, position + 1} if is_any and is_last else {position if is_any else position + 1}
        if ahead == {self._last + 1}:
            self.has_met_folder = True
            return None
        return _with_skipped(frozenset(ahead), self._is_any_depth) if ahead else None


def _matcher(segment: str, left_out: str) -> Callable[[str], object]:
    """Return a function that tells whether a segment matches a name; one regular expression, as names may be many."""
    body = _ANY if segment == "**" else fnmatch.translate(segment)
    return re.compile(_NO_RUNS + ("" if segment.startswith((".", "_")) else left_out) + body).match


def _takes_none(_: str) -> bool:
    return False


@lru_cache(maxsize=1024)
def _with_skipped(state: frozenset[int], is_any_depth: tuple[bool, ...]) -> frozenset[int]:
    """Add the positions after each ``**``, which also matches no folder at all, unless it is the last segment."""
    closed = set(state)
    for position, is_any in enumerate(is_any_depth[:-1]):
        if is_any and position in closed:
            closed.add(position + 1)
    return frozenset(closed)
