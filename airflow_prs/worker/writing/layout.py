"""The layout that the rows of all mini-batches of a run share; the first process that has rows proposes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

Ask = Callable[[int, bytes], "tuple[int, bytes]"]
"""
Proposes the content of the revision with a number, counted from 0, and returns number and content of the newest one:
this one, or one that another process was faster with. Without content it only asks for a revision of that number.
"""


class Layout:
    """
    The layout, as one process knows it: each revision can hold what the ones before could.

    :param ask: asks whoever keeps the revisions; nobody is asked as long as rows fit the one that is known.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._number = -1
        self._known = b""

    def agree(self, fit: Callable[[bytes], tuple[_T, bytes]]) -> _T:
        """
        Return what fits a revision that counts.

        :param fit: takes a revision, b"" if there is none, and returns what fits it, with b"", or else anything with
            the revision to propose. If it raises, this counts only if there is no newer revision.
        """
        while True:
            try:
                fitted, wanted = fit(self._known)
            except Exception:  # noqa: PERF203 - hardly ever more than one round
                if not self._learn(b""):
                    raise
            else:
                if not wanted:
                    return fitted
                self._learn(wanted)

    def _learn(self, proposal: bytes) -> bool:
        """Ask for the next revision; return whether there is one."""
        before = self._number
        self._number, self._known = self._ask(before + 1, proposal)
        return self._number > before
