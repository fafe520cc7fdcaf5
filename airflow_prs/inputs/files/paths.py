"""Millions of paths, held as one column of text instead of an object for each."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from airflow_prs.arrow_columns import of_numbers, to_numbers
from airflow_prs.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_CHUNK = 16384


class Paths(Sequence[str]):
    """
    A sequence of paths that takes hardly more memory than their text.

    :param text: the paths in any order.
    :param order: position in ``text`` of each path, so that sorting copies no text.
    """

    def __init__(self, text: pa.LargeStringArray, order: npt.NDArray[np.integer]) -> None:
        self.text = text
        self._order = order

    @classmethod
    def of(cls, paths: Iterable[str]) -> Paths:
        """Return the paths in their order."""
        import numpy as np

        if isinstance(paths, Paths):
            return paths
        column = PathColumn()
        for path in paths:
            column.append(path)
        return cls(column.finish(), np.arange(len(column)))

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Paths: ...
    def __getitem__(self, number: int | slice) -> str | Paths:
        if isinstance(number, slice):
            return Paths(self.text, self._order[number])
        return str(self.text[int(self._order[number])].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self.chunks():
            yield from chunk.to_pylist()

    def where(self, is_kept: npt.NDArray[np.bool_]) -> Paths:
        """Return some of the paths, without copying text."""
        return Paths(self.text, self._order[is_kept])

    def take(self, numbers: npt.NDArray[np.integer] | slice) -> pa.LargeStringArray:
        """Return a copy of some paths as an array."""
        return self.text.take(of_numbers(self._order[numbers]))

    def chunks(self) -> Iterator[pa.LargeStringArray]:
        """Yield copies of the paths as arrays of bounded size."""
        for start in range(0, len(self), _CHUNK):
            yield self.take(slice(start, start + _CHUNK))


class PathColumn:
    """Collects paths while they are found."""

    def __init__(self) -> None:
        self._fresh: list[str] = []
        self._text = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._fresh)

    def append(self, path: str) -> None:
        """
        Add a path.

        :raises InputError: if a path is not valid UTF-8; this call may raise it, or a later one.
        """
        self._fresh.append(path)
        if len(self._fresh) == _CHUNK:
            self._pack()

    def finish(self) -> pa.LargeStringArray:
        """
        Return all paths in the order in which they were added. No path can be added afterwards.

        :raises InputError: if a path is not valid UTF-8.
        """
        import pyarrow as pa

        self._pack()
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._ends), pa.py_buffer(self._text))

    def _pack(self) -> None:
        joined = "".join(self._fresh)
        try:
            data = joined.encode()
        except UnicodeEncodeError as error:
            raise InputError(_not_utf8(self._fresh, error.start)) from None
        lengths = map(len, self._fresh if len(data) == len(joined) else map(str.encode, self._fresh))
        ends = itertools.accumulate(lengths, initial=len(self._text))
        next(ends)
        self._ends.extend(ends)
        self._text += data
        self._fresh.clear()


def sort_paths(text: pa.LargeStringArray, *, may_repeat: bool) -> tuple[Paths, npt.NDArray[np.integer]]:
    """
    Return the sorted paths, without repeated ones.

    :param text: the paths.
    :param may_repeat: whether paths may be there twice.
    :return: the paths, and for each one its position in ``text``.
    """
    import pyarrow.compute as pc

    order = to_numbers(pc.sort_indices(text))
    if may_repeat:
        order = order[_is_new(Paths(text, order))]
    return Paths(text, order), order


def _is_new(ordered: Paths) -> npt.NDArray[np.bool_]:
    """Return for each path whether it differs from the one before it."""
    import numpy as np
    import pyarrow.compute as pc

    is_new = np.ones(len(ordered), np.bool_)
    for start in range(1, len(ordered), _CHUNK):
        both = ordered.take(slice(start - 1, start + _CHUNK))
        is_new[start : start + _CHUNK] = to_numbers(pc.not_equal(both[1:], both[:-1]).cast("uint8"))
    return is_new


def _not_utf8(paths: Sequence[str], position: int) -> str:
    """Return the message of the error about the path that has a character at a position of the joined text."""
    ends = itertools.accumulate(map(len, paths))
    path = next(path for path, end in zip(paths, ends, strict=True) if position < end)
    return f"the name of {path!r} is not valid UTF-8, so the manifest cannot hold it; rename it."
