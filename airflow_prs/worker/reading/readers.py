"""Readers of mini-batches: they return the argument of run(): paths, or a DataFrame whose index is 0 to n-1."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

# Relative, because this package has another name in a worker process.
from .load_errors import LoadError, name_piece  # noqa: TID252
from .versions import find_change  # noqa: TID252

if TYPE_CHECKING:
    from airflow_prs.worker.reading.key_columns import KeyColumns

_Read = Callable[..., Any]
"""
Reads one piece: takes path, begin, end and row group, returns a DataFrame. With ``is_partial`` the file has only what
this piece needs, in its place.
"""


def make_reader(spec: dict[str, Any]) -> FilesReader | TableReader:
    """
    Return the reader of an input.

    :param spec: its ``kind`` and ``options``.
    """
    if spec["kind"] == "files":
        return FilesReader()
    options = spec["options"]
    return TableReader(functools.partial(_pieces_of(spec["kind"]), options), _make_keys(options.get("path_keys")))


def _pieces_of(kind: str) -> Callable[[dict[str, Any]], _Read]:
    """Return the class that reads pieces of a kind; importing all of them would slow down the start of a process."""
    if kind in ("delimited", "json_lines"):
        from . import text_pieces  # noqa: TID252

        return text_pieces.DelimitedPieces if kind == "delimited" else text_pieces.JsonLinesPieces
    from . import columnar_pieces  # noqa: TID252

    return columnar_pieces.ParquetPieces if kind == "parquet" else columnar_pieces.ArrowPieces


def _make_keys(description: dict[str, Any] | None) -> KeyColumns | None:
    if not description:
        return None
    from .key_columns import KeyColumns  # noqa: TID252

    return KeyColumns(description)


class FilesReader:
    """Returns the paths of files as they are."""

    is_table = False

    def load(
        self,
        pieces: list[str],
        items: int,  # noqa: ARG002 - same signature as TableReader
        versions: Sequence[str | None] = (),
    ) -> list[str]:
        """
        Return a new list of paths, which run() may change.

        :raises LoadError: if a file has changed since plan listed it.
        """
        _require_unchanged(pieces, versions)
        return list(pieces)


class TableReader:
    """
    Reads the pieces of a mini-batch and concatenates their rows.

    :param make_read: makes the function that reads one piece.
    :param keys: adds the columns whose values come from the paths; None: there are none.
    """

    is_table = True

    def __init__(self, make_read: Callable[[], _Read], keys: KeyColumns | None = None) -> None:
        self._make_read = make_read
        self._read = make_read()
        self._keys = keys

    def load(self, pieces: list[list[Any]], items: int, versions: Sequence[str | None] = ()) -> Any:
        """
        Return the rows of a mini-batch as a DataFrame.

        :param pieces: path, begin, end and row group of each, and the local path to open if that is another one: a
            copy that has the bytes of this piece in their places.
        :param items: the number of rows that plan counted.
        :param versions: version of each piece's file when plan listed it; None where it is not known.
        :raises LoadError: if a piece cannot be read, the number of rows is not ``items``, or a file has changed since
            plan listed it.
        """
        paths = [piece[0] for piece in pieces]
        self._require_unchanged(paths, versions)
        try:
            frames = [self._load_piece(*piece) for piece in pieces]
        finally:
            # Also after an error: if the file has changed, that is the cause to report.
            self._require_unchanged(paths, versions)
        frame = _join(frames)
        if len(frame) != items:
            raise LoadError(_miscounted(pieces, len(frame), items))
        return frame if self._keys is None else self._keys.add(frame, paths, [len(one) for one in frames])

    def _require_unchanged(self, paths: Sequence[str], versions: Sequence[str | None]) -> None:
        try:
            _require_unchanged(paths, versions)
        except LoadError:
            # The current function may keep parts of files of another version.
            self._read = self._make_read()
            raise

    def _load_piece(
        self, path: str, begin: int | None, end: int | None, row_group: int | None, local: str | None = None
    ) -> Any:
        try:
            if local is None or local == path:
                return self._read(path, begin, end, row_group)
            return self._read(local, begin, end, row_group, is_partial=begin is not None)
        except LoadError:
            raise
        except Exception as error:  # the parsers of pandas and pyarrow raise exceptions of any type
            message = " ".join(str(error).split())
            raise LoadError(f"{name_piece(path, begin, end, row_group)}: {type(error).__name__}: {message}") from error


def part_of(mini_batch: Any, spans: Sequence[Sequence[int]]) -> Any:
    """
    Return some items of a mini-batch in the form in which run() gets all of them.

    :param spans: position of the first item, and one past the last one, of each stretch.
    """
    if isinstance(mini_batch, list):
        return [item for begin, end in spans for item in mini_batch[begin:end]]
    pandas = sys.modules["pandas"]
    part = mini_batch.iloc[[place for begin, end in spans for place in range(begin, end)]]
    if isinstance(mini_batch.index, pandas.RangeIndex):
        part.index = pandas.RangeIndex(len(part))
    return part


def _join(frames: list[Any]) -> Any:
    """Concatenate rows; an index that is more than a count of rows is kept."""
    pandas = sys.modules["pandas"]
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    is_counted = isinstance(filled[0].index, pandas.RangeIndex)
    # Columns of pieces without rows have no type, and would change the type of the others.
    frame = filled[0] if len(filled) == 1 else pandas.concat(filled, ignore_index=is_counted)
    if is_counted:
        frame.index = pandas.RangeIndex(len(frame))
    return frame


def _require_unchanged(paths: Iterable[str], versions: Iterable[str | None]) -> None:
    # A mini-batch may have many files, and many pieces of one file.
    for path, version in dict.fromkeys(zip(paths, versions)):  # noqa: B905 - empty where versions are not known
        if version is None:
            continue
        try:
            change = find_change(path, version)
        except OSError as error:
            raise LoadError(
                f"{path}: the file that plan listed cannot be accessed: {error.strerror}; it must be on storage that "
                "all nodes see, and stay there until the run is over"
            ) from error
        if change is not None:
            raise LoadError(
                f"{path}: the file has changed since it was planned: {change}; clear the plan task to start over"
            )


def _miscounted(pieces: list[list[Any]], rows: int, items: int) -> str:
    more = f" and {len(pieces) - 1} more" if len(pieces) > 1 else ""
    return (
        f"{name_piece(*pieces[0][:4])}{more}: {rows} rows where the plan counted {items}: plan and the worker process "
        "read the same file differently. Install in the environment the versions of pandas and pyarrow that Airflow "
        "has; if it has them, this is a bug in airflow_prs: please report it"
    )
