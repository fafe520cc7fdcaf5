"""From paths and patterns to files in sorted order, with what the file system says about them."""

# ruff: noqa: PTH100, PTH112, PTH116, PTH118
# Paths are text here: Path objects for a million files would cost too much.
from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_prs.ahead import map_ahead
from airflow_prs.arrow_columns import of_numbers, text_scalar
from airflow_prs.errors import InputChangedError, InputError
from airflow_prs.inputs.files.globs import Glob, has_magic
from airflow_prs.inputs.files.paths import PathColumn, Paths
from airflow_prs.inputs.files.walking import walk
from airflow_prs.records import RUNS
from airflow_prs.worker.reading.versions import SEPARATOR, find_change

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


_CHUNK = 4096
_THREADS = 4
"""Enough to hide most of a file server's latency."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """
    Files in sorted order, in columns, so that a million of them can be held.

    :param paths: absolute paths.
    :param sizes: in bytes.
    :param modified_ns: moments of the last change, nanoseconds since the epoch.
    :param unmatched: one sentence for each path or pattern that matched nothing.
    """

    paths: Paths
    sizes: npt.NDArray[np.int64]
    modified_ns: npt.NDArray[np.int64]
    unmatched: tuple[str, ...] = ()

    @classmethod
    def of(cls, paths: Iterable[str]) -> Listing:
        """
        Look at files that are known, in their order.

        :raises InputError: if one of them cannot be looked at.
        """
        found = _Found()
        for path in paths:
            _add_named(path, found)
        return found.as_found()

    def __len__(self) -> int:
        return len(self.paths)

    def versions(self, numbers: npt.NDArray[np.integer] | slice) -> pa.Array:
        """Name the versions of some files, by which their readers know them again."""
        import pyarrow.compute as pc

        parts = [of_numbers(column[numbers]).cast("string") for column in (self.sizes, self.modified_ns)]
        return pc.binary_join_element_wise(*parts, text_scalar(SEPARATOR))

    def digest(self) -> str:
        """Return a hash of all paths, sizes and times, made column by column: JSON of a million files has 100 MB."""
        import numpy as np

        text, ends = hashlib.sha256(), hashlib.sha256()
        for chunk in self.paths.chunks():
            _, offsets, data = chunk.buffers()
            lengths = np.diff(np.frombuffer(offsets, "<i8", len(chunk) + 1))
            ends.update(lengths.tobytes())
            text.update(memoryview(data)[: lengths.sum()])
        numbers = [hashlib.sha256(column.astype("<i8").tobytes()) for column in (self.sizes, self.modified_ns)]
        return hashlib.sha256(b"".join(column.digest() for column in (text, ends, *numbers))).hexdigest()

    def require_unchanged(self) -> None:
        """
        Check that all files are still what they were when they were listed.

        :raises InputChangedError: if one of them is not.
        """
        chunks = (slice(begin, begin + _CHUNK) for begin in range(0, len(self), _CHUNK))
        for _ in map_ahead(self._require_unchanged, chunks, threads=_THREADS):
            pass

    def _require_unchanged(self, some: slice) -> None:
        for path, version in zip(self.paths[some], self.versions(some).to_pylist(), strict=True):
            _require_unchanged(path, version)

    def without(self, is_left_out: Callable[[str], bool]) -> Listing:
        """
        Leave out files.

        :param is_left_out: asked with each path.
        """
        import numpy as np

        kept = np.fromiter((not is_left_out(path) for path in self.paths), np.bool_, len(self))
        return Listing(self.paths.where(kept), self.sizes[kept], self.modified_ns[kept], self.unmatched)


class _Found:
    """Files in the order in which they are found."""

    def __init__(self) -> None:
        self._paths = PathColumn()
        self._sizes = array("q")
        self._modified_ns = array("q")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, path: str, status: os.stat_result) -> None:
        self._paths.append(path)
        self._sizes.append(status.st_size)
        self._modified_ns.append(status.st_mtime_ns)

    def as_found(self) -> Listing:
        import numpy as np

        paths = Paths(self._paths.finish(), np.arange(len(self)))
        return Listing(paths, np.asarray(self._sizes), np.asarray(self._modified_ns))

    def in_order(self, unmatched: tuple[str, ...], *, may_repeat: bool) -> Listing:
        import numpy as np

        paths, order = self._paths.in_order(may_repeat=may_repeat)
        return Listing(paths, np.asarray(self._sizes)[order], np.asarray(self._modified_ns)[order], unmatched)


def list_files(
    path: str | Sequence[str], *, base: str, published: str | None = None, are_tables: bool = False
) -> Listing:
    """
    List what a dataset's path stands for.

    A folder is taken with all that lies below it. Hidden names (beginning with "."), run folders and the file that
    this operator publishes are left out, under whatever name a link has for them, unless the path names them itself;
    what two patterns match counts once.

    :param path: a file, a folder, a glob, or several of them. A path that exists is never taken for a glob.
    :param base: folder that relative paths start from.
    :param published: the file that this operator publishes.
    :param are_tables: whether names that begin with "_" are left out, too.
    :raises InputError: if a file does not exist or cannot be looked at.
    """
    found = _Found()
    unmatched = []
    singles = (path,) if isinstance(path, str) else path
    result = _Result(published)
    for single in singles:
        before = len(found)
        hint = _expand(single, base, found, result, are_tables=are_tables)
        if len(found) == before:
            unmatched.append(f"{single!r} matched no file{hint}")
    if not singles:
        unmatched.append("the list of paths is empty")
    return found.in_order(tuple(unmatched), may_repeat=len(singles) > 1)


def absolute_path(path: str, base: str) -> str:
    """
    Make a path absolute without following links, but for what is before a "..": else one file would have two paths.

    :param base: folder that relative paths start from.
    """
    parts = PurePosixPath(os.path.abspath(base), path).parts
    end = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    try:
        head = os.path.realpath(os.path.join(*parts[:end]), strict=True) if end else ""
    except OSError:  # a pattern, or nothing
        return str(PurePosixPath(*parts))
    return str(PurePosixPath(head, *parts[end:]))


def _expand(text: str, base: str, found: _Found, result: _Result, *, are_tables: bool) -> str:
    """Add all files that a path or pattern stands for; returns what helps the reader if there were none."""
    path = absolute_path(text, base)
    root, pattern = _split(path)
    if not any(map(has_magic, pattern)) and not (pattern == () and os.path.isdir(root)):
        _add_named(path, found)
        return ""
    if not pattern or text.endswith("/"):
        pattern = (*pattern, "**")
    if not os.path.isdir(root):
        return f": {root!r} is not a folder"
    return _search(root, pattern, found, result, are_tables=are_tables)


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    """Split a path into the longest part that exists and the segments after it."""
    parts = PurePosixPath(path).parts
    root = parts[0]
    for position, part in enumerate(parts[1:], 1):
        if not os.path.lexists(ahead := os.path.join(root, part)):
            return root, parts[position:]
        root = ahead
    return root, ()


def _search(root: str, pattern: tuple[str, ...], found: _Found, result: _Result, *, are_tables: bool) -> str:
    before = len(found)
    glob = Glob(pattern, for_tables=are_tables)
    for entry in _walk(root, glob):
        try:
            status = entry.stat()
        except FileNotFoundError:  # removed since the folder was listed, so no longer input
            continue
        if not result.is_at(entry.path, status):
            found.add(entry.path, status)
    if not has_magic(pattern[0]):
        return f": {os.path.join(root, pattern[0])!r} does not exist"
    if are_tables and len(found) == before and next(_walk(root, Glob(pattern)), None):
        return ", only files of names or in folders that begin with '_', which a path to tables has to name itself"
    return ", only folders; a glob that ends with '/**' takes what is in them" if glob.has_met_folder else ""


def _walk(root: str, glob: Glob) -> Iterator[os.DirEntry[str]]:
    """Follow no link into a run folder, unless that is where the path itself leads."""
    is_inside = _is_in_run_folders(os.path.realpath(root))
    return walk(
        root,
        glob.start,
        glob.takes,
        glob.enters,
        follows=lambda _link, target, _is_loop: is_inside or not _is_in_run_folders(target),
    )


def _is_in_run_folders(path: str) -> bool:
    return f"/{RUNS}/" in f"{path}/"


class _Result:
    """
    The file that is no input, whatever it is called.

    :param path: where it is published; None: nowhere.
    """

    def __init__(self, path: str | None) -> None:
        self._path = os.path.realpath(path) if path else None
        self._place = None
        if self._path:
            with suppress(OSError):  # there is none yet
                status = os.stat(self._path)
                self._place = status.st_dev, status.st_ino

    def is_at(self, path: str, status: os.stat_result) -> bool:
        """
        Whether it is what a path leads to.

        :param status: of what is there; real paths take too long for a million files.
        """
        return (status.st_dev, status.st_ino) == self._place and os.path.realpath(path) == self._path


def _add_named(path: str, found: _Found) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path!r} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path!r} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path!r} is neither a file nor a folder, but a pipe, a socket or a device.")
    found.add(path, status)


def _require_unchanged(path: str, version: str) -> None:
    try:
        change = find_change(path, version)
    except OSError as error:
        raise InputChangedError(
            f"{path!r} cannot be looked at any more while plan reads the input: {error.strerror}. Run plan again when "
            "nothing writes to the input."
        ) from error
    if change is not None:
        raise InputChangedError(
            f"{path!r} has changed while plan read the input: {change}. "
            "Run plan again when nothing writes to the input."
        )
