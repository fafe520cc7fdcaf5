"""Globs, followed along the names of a path."""

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
    """Whether a segment of a path may stand for other names than its own."""
    return _MAGIC.search(segment) is not None


class Glob:
    """
    Follows a glob along the names of a path, all ways at once.

    A state is the set of segments that may come next. Names that begin with "." match only a segment that begins with
    it or "_" itself, the names of run folders none.

    :param segments: of the glob.
    :param for_tables: whether names that begin with "_" are treated like those with ".", but for folders ``key=value``:
        so other engines name what lies beside tables and is none, such as ``_SUCCESS``.
    :ivar start: the state before the first name.
    :ivar has_met_folder: whether the whole glob matched a folder.
    """

    def __init__(self, segments: tuple[str, ...], *, for_tables: bool = False) -> None:
        left_out = (_NOT_ASIDE, _NOT_ASIDE_OR_KEY) if for_tables else (_NOT_HIDDEN, _NOT_HIDDEN)
        self._matches, self._folder_matches = ([_matcher(segment, out) for segment in segments] for out in left_out)
        self._is_any_depth = tuple(segment == "**" for segment in segments)
        self._last = len(segments) - 1
        self.start = _close(frozenset({0}), self._is_any_depth)
        self.has_met_folder = False

    def takes(self, state: frozenset[int]) -> Callable[[str], object]:
        """Give what says of a file's name whether the whole glob matches with it."""
        return self._matches[self._last] if self._last in state else _takes_none

    def enters(self, name: str, state: frozenset[int]) -> frozenset[int] | None:
        """Give the state after a folder's name; None: nothing below it can match."""
        ahead = set()
        for position in state:
            if position <= self._last and self._folder_matches[position](name):
                is_any, is_last = self._is_any_depth[position], position == self._last
                ahead |= {position, position + 1} if is_any and is_last else {position if is_any else position + 1}
        if ahead == {self._last + 1}:
            self.has_met_folder = True
            return None
        return _close(frozenset(ahead), self._is_any_depth) if ahead else None


def _matcher(segment: str, left_out: str) -> Callable[[str], object]:
    """Make what says of a name whether a segment matches; one search each, as there may be a million names."""
    body = _ANY if segment == "**" else fnmatch.translate(segment)
    return re.compile(_NO_RUNS + ("" if segment.startswith((".", "_")) else left_out) + body).match


def _takes_none(_: str) -> bool:
    return False


@lru_cache(maxsize=1024)
def _close(state: frozenset[int], is_any_depth: tuple[bool, ...]) -> frozenset[int]:
    """Add what may be skipped: ``**`` also stands for no folder at all, unless it comes last."""
    closed = set(state)
    for position, is_any in enumerate(is_any_depth[:-1]):
        if is_any and position in closed:
            closed.add(position + 1)
    return frozenset(closed)
