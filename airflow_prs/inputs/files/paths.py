"""Paths by the million: text in columns, not an object for each."""

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
    Paths that take hardly more memory than their text.

    :param text: paths in any order.
    :param order: position in ``text`` of each path, so that sorting copies nothing.
    """

    def __init__(self, text: pa.LargeStringArray, order: npt.NDArray[np.integer]) -> None:
        self._text = text
        self._order = order

    @classmethod
    def of(cls, paths: Iterable[str]) -> Paths:
        """Hold paths as they are, in their order."""
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
            return Paths(self._text, self._order[number])
        return str(self._text[int(self._order[number])].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self.chunks():
            yield from chunk.to_pylist()

    def where(self, is_kept: npt.NDArray[np.bool_]) -> Paths:
        """Leave out paths without copying the others."""
        return Paths(self._text, self._order[is_kept])

    def take(self, numbers: npt.NDArray[np.integer] | slice) -> pa.LargeStringArray:
        """Copy some paths into an array."""
        return self._text.take(of_numbers(self._order[numbers]))

    def chunks(self) -> Iterator[pa.LargeStringArray]:
        """Copy the paths into arrays of bounded size, one after the other."""
        for start in range(0, len(self), _CHUNK):
            yield self.take(slice(start, start + _CHUNK))


class PathColumn:
    """Paths while they are found."""

    def __init__(self) -> None:
        self._fresh: list[str] = []
        self._text = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._fresh)

    def append(self, path: str) -> None:
        """
        Add a path.

        :raises InputError: if it is not valid UTF-8; said here or by what comes later.
        """
        self._fresh.append(path)
        if len(self._fresh) == _CHUNK:
            self._pack()

    def finish(self) -> pa.LargeStringArray:
        """
        Give all paths in the order in which they came; nothing can be added any more.

        :raises InputError: if one is not valid UTF-8.
        """
        import pyarrow as pa

        self._pack()
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._ends), pa.py_buffer(self._text))

    def in_order(self, *, may_repeat: bool) -> tuple[Paths, npt.NDArray[np.integer]]:
        """
        Sort the paths and leave out repeated ones; nothing can be added any more.

        :param may_repeat: whether there may be any.
        :return: the paths, and the number that each one had when it came.
        :raises InputError: if one is not valid UTF-8.
        """
        import pyarrow.compute as pc

        text = self.finish()
        order = to_numbers(pc.sort_indices(text))
        if may_repeat:
            order = order[_is_new(Paths(text, order))]
        return Paths(text, order), order

    def _pack(self) -> None:
        joined = "".join(self._fresh)
        try:
            data = joined.encode()
        except UnicodeEncodeError as error:
            raise InputError(_unstorable(self._fresh, error.start)) from None
        lengths = map(len, self._fresh if len(data) == len(joined) else map(str.encode, self._fresh))
        ends = itertools.accumulate(lengths, initial=len(self._text))
        next(ends)
        self._ends.extend(ends)
        self._text += data
        self._fresh.clear()


def _is_new(ordered: Paths) -> npt.NDArray[np.bool_]:
    """Say of each path whether it differs from the one before."""
    import numpy as np
    import pyarrow.compute as pc

    is_new = np.ones(len(ordered), np.bool_)
    for start in range(1, len(ordered), _CHUNK):
        both = ordered.take(slice(start - 1, start + _CHUNK))
        is_new[start : start + _CHUNK] = to_numbers(pc.not_equal(both[1:], both[:-1]).cast("uint8"))
    return is_new


def _unstorable(paths: Sequence[str], position: int) -> str:
    """Word the error about the path that holds a character of the joined text."""
    ends = itertools.accumulate(map(len, paths))
    path = next(path for path, end in zip(paths, ends, strict=True) if position < end)
    return f"the name of {path!r} is not valid UTF-8, so no manifest can hold it; rename it."
