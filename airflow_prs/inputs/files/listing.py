"""List the files and objects that paths and patterns match, in sorted order, with their sizes and versions."""

# ruff: noqa: PTH100, PTH112, PTH116, PTH118
# Paths are text here: Path objects for a million files would cost too much.
from __future__ import annotations

import hashlib
import itertools
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from airflow_prs.ahead import map_ahead
from airflow_prs.arrow_columns import of_numbers, text_scalar
from airflow_prs.errors import InputError
from airflow_prs.inputs.files.globs import Glob, has_magic
from airflow_prs.inputs.files.objects import THREADS, Objects, list_folder, list_objects
from airflow_prs.inputs.files.opening import FIRST_BYTES, InputFile, fetch, open_object, require_unchanged
from airflow_prs.inputs.files.paths import PathColumn, Paths, sort_paths
from airflow_prs.inputs.files.walking import walk
from airflow_prs.object_storage.addresses import Address, is_remote, parse_address
from airflow_prs.records import RUNS
from airflow_prs.worker.reading.versions import SEPARATOR

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
    Files in sorted order. They are held in columns, since there may be millions.

    :param paths: absolute paths, or addresses of objects.
    :param sizes: sizes in bytes.
    :param modified_ns: times of the last change, in nanoseconds since the epoch; 0 for objects.
    :param unmatched: one sentence for each path or pattern that matched nothing.
    :param etags: the ETags of objects, null for files; None: there are only files.
    """

    paths: Paths
    sizes: npt.NDArray[np.int64]
    modified_ns: npt.NDArray[np.int64]
    unmatched: tuple[str, ...] = ()
    etags: pa.LargeStringArray | None = None

    @classmethod
    def of(cls, paths: Iterable[str]) -> Listing:
        """
        Return a listing of known files, in their order.

        :raises InputError: if a file does not exist or cannot be accessed.
        """
        found = _Found()
        for path in paths:
            _add_named(path, found)
        return found.listing()

    @classmethod
    def below(cls, folder: Address) -> Listing:
        """
        Return a listing of all objects in a folder, also those with hidden names.

        :raises InputError: if a key cannot be the path of a file.
        :raises StorageError: if the bucket cannot be listed.
        """
        found = _Found()
        found.add_objects(list_folder(folder))
        return found.sorted_listing((), may_repeat=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def threads(self) -> int:
        """How many files are worth opening at the same time."""
        return _THREADS if self.etags is None else THREADS

    def open(self, path: str) -> BinaryIO:
        """
        Open a file of a sorted listing for reading.

        :raises OSError: if a local file cannot be opened.
        """
        if not is_remote(path):
            return Path(path).open("rb")
        return self._open_object(bisect_left(self.paths, path))

    def source(self, path: str) -> str | BinaryIO:
        """Return what pyarrow reads best of a sorted listing: the path of a local file, but an object that is open."""
        return self.open(path) if is_remote(path) else path

    def files(self) -> Generator[InputFile]:
        """Yield the files in their order; the beginnings of objects are fetched ahead. Close it, which ends threads."""
        if self.etags is None:
            return (InputFile(path, partial(self.open, path)) for path in self.paths)
        return map_ahead(self._begun, range(len(self)), threads=self.threads)

    def _begun(self, number: int) -> InputFile:
        path = self.paths[number]
        if not is_remote(path):
            return InputFile(path, partial(self.open, path))
        end = min(int(self.sizes[number]), FIRST_BYTES)
        begin = fetch(parse_address(path), self._etag(number), 0, end)
        return InputFile(path, partial(self._open_object, number, begin))

    def _open_object(self, number: int, begin: bytes = b"") -> BinaryIO:
        return open_object(self.paths[number], int(self.sizes[number]), self._etag(number), begin)

    def _etag(self, number: int) -> str:
        return str(cast("pa.LargeStringArray", self.etags)[number].as_py())

    def versions(self, numbers: npt.NDArray[np.integer] | slice) -> pa.Array:
        """Return the versions of some files, with which worker processes check that the files have not changed."""
        import pyarrow.compute as pc

        parts = [of_numbers(column[numbers]).cast("string") for column in (self.sizes, self.modified_ns)]
        of_files = pc.binary_join_element_wise(*parts, text_scalar(SEPARATOR))
        if self.etags is None:
            return of_files
        etags = self.etags[numbers] if isinstance(numbers, slice) else self.etags.take(of_numbers(numbers))
        return pc.coalesce(etags.cast("string"), of_files)

    def digest(self) -> str:
        """Return a hash of all paths, sizes and versions by column: JSON of a million files would have 100 MB."""
        import numpy as np

        text, ends = hashlib.sha256(), hashlib.sha256()
        for chunk in self.paths.chunks():
            _, offsets, data = chunk.buffers()
            lengths = np.diff(np.frombuffer(offsets, "<i8", len(chunk) + 1))
            ends.update(lengths.tobytes())
            text.update(memoryview(data)[: lengths.sum()])
        numbers = [hashlib.sha256(column.astype("<i8").tobytes()) for column in (self.sizes, self.modified_ns)]
        if self.etags is not None:
            etags = "\n".join(etag or "" for etag in self.etags.to_pylist())
            numbers.append(hashlib.sha256(etags.encode()))
        return hashlib.sha256(b"".join(column.digest() for column in (text, ends, *numbers))).hexdigest()

    def require_unchanged(self) -> None:
        """
        Check that no file has changed since it was listed. Of an object, each answer shows that already.

        :raises InputChangedError: if a file has changed.
        """
        chunks = (slice(begin, begin + _CHUNK) for begin in range(0, len(self), _CHUNK))
        for _ in map_ahead(self._require_unchanged, chunks, threads=_THREADS):
            pass

    def _require_unchanged(self, some: slice) -> None:
        for path, version in zip(self.paths[some], self.versions(some).to_pylist(), strict=True):
            if not is_remote(path):
                require_unchanged(path, version)

    def without(self, is_left_out: Callable[[str], bool]) -> Listing:
        """
        Return the listing without some files.

        :param is_left_out: called with each path.
        """
        import numpy as np

        return self.where(np.fromiter((not is_left_out(path) for path in self.paths), np.bool_, len(self)))

    def only(self, paths: Sequence[str]) -> Listing:
        """Return the listing of some of its files, in their order."""
        import numpy as np

        known = {path: number for number, path in enumerate(self.paths)}
        numbers = np.fromiter((known[path] for path in paths), np.int64, len(paths))
        etags = None if self.etags is None else self.etags.take(of_numbers(numbers))
        return Listing(Paths.of(paths), self.sizes[numbers], self.modified_ns[numbers], (), etags)

    def where(self, kept: npt.NDArray[np.bool_]) -> Listing:
        """Return the listing with some of its files."""
        import numpy as np

        etags = None if self.etags is None else self.etags.take(of_numbers(np.flatnonzero(kept)))
        return Listing(self.paths.where(kept), self.sizes[kept], self.modified_ns[kept], self.unmatched, etags)


class _MissingPathError(InputError):
    """A path without a pattern does not exist, but its parent does. If nothing else is found, the input is empty."""


class _Found:
    """Collects files in the order in which they are found."""

    def __init__(self) -> None:
        self._paths = PathColumn()
        self._sizes = array("q")
        self._modified_ns = array("q")
        self._objects: list[Objects] = []

    def __len__(self) -> int:
        return len(self._sizes) + sum(map(len, self._objects))

    def add(self, path: str, status: os.stat_result) -> None:
        self._paths.append(path)
        self._sizes.append(status.st_size)
        self._modified_ns.append(status.st_mtime_ns)

    def add_objects(self, objects: Objects) -> None:
        if len(objects):
            self._objects.append(objects)

    def listing(self) -> Listing:
        """Return the files in the order in which they were added, and then the objects."""
        import numpy as np
        import pyarrow as pa

        sizes, modified_ns, text = np.asarray(self._sizes), np.asarray(self._modified_ns), self._paths.finish()
        etags = None
        if self._objects:
            etags = pa.concat_arrays(
                [pa.nulls(len(text), pa.large_string()), *(objects.etags for objects in self._objects)]
            )
            text = pa.concat_arrays([text, *(objects.paths for objects in self._objects)])
            sizes = np.concatenate([sizes, *(objects.sizes for objects in self._objects)])
            modified_ns = np.concatenate([modified_ns, np.zeros(len(text) - len(modified_ns), np.int64)])
        return Listing(Paths(text, np.arange(len(text))), sizes, modified_ns, (), etags)

    def sorted_listing(self, unmatched: tuple[str, ...], *, may_repeat: bool) -> Listing:
        found = self.listing()
        paths, order = sort_paths(found.paths.text, may_repeat=may_repeat)
        etags = None if found.etags is None else found.etags.take(of_numbers(order))
        return Listing(paths, found.sizes[order], found.modified_ns[order], unmatched, etags)


def list_files(
    path: str | Sequence[str], *, base: str, published: str | None = None, are_tables: bool = False
) -> Listing:
    """
    Return the files that the paths of a dataset match.

    A folder matches all files in it and in its subfolders. On object storage, a folder is all objects whose keys begin
    with its own and a slash, and empty objects that only mark a folder are left out. Hidden names (beginning with "."),
    run folders and the result file of the operator are left out, also if a link leads to them, unless the path itself
    names them. A file that two patterns match is listed once.

    :param path: a file, a folder, a glob, or several of them. A path that exists is never a glob.
    :param base: folder that relative paths start from.
    :param published: the result file of the operator; None: there is none.
    :param are_tables: whether names that begin with "_" are left out, too.
    :raises InputError: if a file cannot be accessed; if a folder does not exist that is the parent of a path or of a
        pattern's last fixed folder, as its storage may not be mounted; or if a path itself does not exist while another
        one matches files.
    :raises StorageError: if object storage cannot be listed.
    """
    found = _Found()
    unmatched = []
    missing: _MissingPathError | None = None
    singles = (path,) if isinstance(path, str) else path
    result = _Result(None if published is None or is_remote(published) else published)
    list_one = partial(list_objects, published=published, are_tables=are_tables)
    with closing(map_ahead(list_one, filter(is_remote, singles), threads=THREADS)) as objects:
        for single in singles:
            before = len(found)
            try:
                if is_remote(single):
                    hint = _add_objects(single, next(objects), found)
                else:
                    hint = _expand(single, base, found, result, are_tables=are_tables)
            except _MissingPathError as error:
                missing = missing or error
                unmatched.append(str(error).rstrip("."))
                continue
            if len(found) == before:
                unmatched.append(f"{single!r} matched no file{hint}")
    if missing is not None and len(found):
        raise missing
    if not singles:
        unmatched.append("the list of paths is empty")
    return found.sorted_listing(tuple(unmatched), may_repeat=len(singles) > 1)


def absolute_path(path: str, base: str) -> str:
    """
    Return a path as an absolute path; an address stays one.

    Links stay, except those before a "..", or one file would have two paths.

    :param base: folder that relative paths start from.
    """
    if is_remote(path):
        return str(parse_address(path))
    parts = PurePosixPath(os.path.abspath(base), path).parts
    end = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    try:
        head = os.path.realpath(os.path.join(*parts[:end]), strict=True) if end else ""
    except OSError:  # a pattern, or a path that does not exist
        return str(PurePosixPath(*parts))
    return str(PurePosixPath(head, *parts[end:]))


def _add_objects(text: str, objects: Objects, found: _Found) -> str:
    """Add the objects that an address or pattern matches, and return a hint for the error if it matches none."""
    if objects.is_missing:
        raise _MissingPathError(f"{text!r} does not exist.")
    found.add_objects(objects)
    return objects.hint


def _expand(text: str, base: str, found: _Found, result: _Result, *, are_tables: bool) -> str:
    """Add all files that a path or pattern matches, and return a hint for the error if it matches none."""
    path = absolute_path(text, base)
    root, pattern = _split(path)
    fixed = len(list(itertools.takewhile(lambda part: not has_magic(part), pattern)))
    if fixed > 1:
        raise InputError(f"{path!r} does not exist: there is no {os.path.join(root, pattern[0])!r}.")
    if pattern and fixed == len(pattern) and os.path.isdir(root):
        raise _MissingPathError(f"{path!r} does not exist.")
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
        except FileNotFoundError:  # removed since the folder was listed, so it is no longer input
            continue
        if not result.is_at(entry.path, status):
            found.add(entry.path, status)
    if not has_magic(pattern[0]):
        return f": {os.path.join(root, pattern[0])!r} does not exist"
    if are_tables and len(found) == before and next(_walk(root, Glob(pattern)), None):
        return (
            ", except files in folders or with names that begin with '_', which a path to tables must name explicitly"
        )
    return ", only folders; a glob that ends with '/**' matches the files in them" if glob.has_met_folder else ""


def _walk(root: str, glob: Glob) -> Iterator[os.DirEntry[str]]:
    """Yield the files that a glob matches below a folder. No link into a run folder is followed from outside of it."""
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
    The result file, which is not input under any path.

    :param path: path of the result file; None: there is none.
    """

    def __init__(self, path: str | None) -> None:
        self._path = os.path.realpath(path) if path else None
        self._place = None
        if self._path:
            with suppress(OSError):  # the file does not exist yet
                status = os.stat(self._path)
                self._place = status.st_dev, status.st_ino

    def is_at(self, path: str, status: os.stat_result) -> bool:
        """
        Return whether a path leads to the result file.

        :param status: status of the file at the path; resolving links takes too long for a million files.
        """
        return (status.st_dev, status.st_ino) == self._place and os.path.realpath(path) == self._path


def _add_named(path: str, found: _Found) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path!r} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path!r} cannot be accessed: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path!r} is a pipe, a socket or a device; allowed: a file or a folder.")
    found.add(path, status)
