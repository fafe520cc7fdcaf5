"""From paths and patterns to files in sorted order, with what the file system says about them."""

# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH119
# Paths are text here: Path objects for a million files would cost too much.
from __future__ import annotations

import fnmatch
import os
import re
import stat
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from airflow_prs.errors import InputError
from airflow_prs.plan.walking import walk
from airflow_prs.run_folder.names import RUNS

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Listing:
    """
    Files in sorted order, in columns, so that a million of them can be held.

    :param paths: absolute paths.
    :param sizes: in bytes.
    :param modified_ns: moments of the last change, nanoseconds since the epoch.
    :param unmatched: one sentence for each path or pattern that matched nothing.
    """

    paths: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    modified_ns: array[int] = field(default_factory=lambda: array("q"))
    unmatched: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def without(self, is_left_out: Callable[[str], bool]) -> Listing:
        """
        Leave out files.

        :param is_left_out: asked with each path.
        """
        kept = [number for number, path in enumerate(self.paths) if not is_left_out(path)]
        return Listing(
            [self.paths[number] for number in kept],
            array("q", [self.sizes[number] for number in kept]),
            array("q", [self.modified_ns[number] for number in kept]),
            self.unmatched,
        )


def list_files(path: str | Sequence[str], *, base: str, published: str | None = None) -> Listing:
    """
    List what a dataset's path stands for.

    A folder is taken with all that lies below it. Hidden names (beginning with "."), run folders and the file that
    this operator publishes are left out unless the path names them itself; what two patterns match counts once.

    :param path: a file, a folder, a glob, or several of them. A path that exists is never taken for a glob.
    :param base: folder that relative paths start from.
    :param published: the file that this operator publishes.
    :raises InputError: if a file does not exist or cannot be looked at.
    """
    found = Listing()
    unmatched = []
    for single in (path,) if isinstance(path, str) else path:
        before = len(found)
        hint = _expand(single, base, found, published)
        if len(found) == before:
            unmatched.append(f"{single!r} matched no file{hint}")
    return _in_order(found, tuple(unmatched) if path else ("the list of paths is empty",))


def absolute_path(path: str, base: str) -> str:
    """
    Make a path absolute without following links.

    :param base: folder that relative paths start from.
    """
    return str(PurePosixPath(os.path.abspath(base), path))


def _expand(text: str, base: str, found: Listing, published: str | None) -> str:
    """Add all files that a path or pattern stands for; returns what helps the reader if there were none."""
    path = absolute_path(text, base)
    root, pattern = _split(path)
    if not any(map(_MAGIC.search, pattern)) and not (pattern == () and os.path.isdir(root)):
        _add_named(path, found)
        return ""
    if not pattern or text.endswith("/"):
        pattern = (*pattern, "**")
    if not os.path.isdir(root):
        return f": {root!r} is not a folder"
    return _search(root, pattern, found, published)


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    """Split a path into the longest part that exists and the segments after it."""
    parts = PurePosixPath(path).parts
    root = parts[0]
    for position, part in enumerate(parts[1:], 1):
        if not os.path.lexists(ahead := os.path.join(root, part)):
            return root, parts[position:]
        root = ahead
    return root, ()


def _search(root: str, pattern: tuple[str, ...], found: Listing, published: str | None) -> str:
    matcher = _Matcher(pattern)
    for entry in walk(root, matcher.start, matcher.advance, on_loop=lambda _: None):
        if not _is_published(entry, published):
            try:
                _add(entry.path, entry.stat(), found)
            except FileNotFoundError:  # removed since the folder was listed, so no longer input
                continue
    if not _MAGIC.search(pattern[0]):
        return f": {os.path.join(root, pattern[0])!r} does not exist"
    return ", only folders; a glob that ends with '/**' takes what is in them" if matcher.has_met_folder else ""


def _is_published(entry: os.DirEntry[str], published: str | None) -> bool:
    return (
        published is not None
        and entry.name == os.path.basename(published)
        and os.path.realpath(entry.path) == os.path.realpath(published)
    )


def _add_named(path: str, found: Listing) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path!r} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path!r} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path!r} is neither a file nor a folder, but a pipe, a socket or a device.")
    _add(path, status, found)


def _add(path: str, status: os.stat_result, found: Listing) -> None:
    found.paths.append(path)
    found.sizes.append(status.st_size)
    found.modified_ns.append(status.st_mtime_ns)


def _in_order(found: Listing, unmatched: tuple[str, ...]) -> Listing:
    listing = Listing(unmatched=unmatched)
    paths = found.paths
    last = ""
    for position in sorted(range(len(paths)), key=paths.__getitem__):
        path = paths[position]
        if path != last:
            listing.paths.append(_storable(path))
            listing.sizes.append(found.sizes[position])
            listing.modified_ns.append(found.modified_ns[position])
        last = path
    return listing


def _storable(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {path!r} is not valid UTF-8, so no manifest can hold it; rename it.") from None
    return path


class _Matcher:
    """
    Follows a glob along the names of a path, all ways at once.

    A state is the set of segments that may come next; one past the last segment means that the whole glob matched.

    :param pattern: the glob's segments.
    :ivar has_met_folder: whether the whole glob matched a folder.
    """

    def __init__(self, pattern: tuple[str, ...]) -> None:
        self._segments = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in pattern]
        self._is_any_depth = tuple(part == "**" for part in pattern)
        self._may_be_hidden = [part.startswith(".") for part in pattern]
        self.start = self._close({0})
        self.has_met_folder = False

    def advance(self, name: str, state: frozenset[int], is_folder: bool) -> frozenset[int] | None:  # noqa: FBT001
        """Give the state after one more name; None: nothing below or at it can match."""
        if name == RUNS:
            return None
        ahead = self._after(name, state)
        if not is_folder:
            return ahead if len(self._segments) in ahead else None
        if ahead == {len(self._segments)}:
            self.has_met_folder = True
            return None
        return ahead or None

    def _after(self, name: str, state: frozenset[int]) -> frozenset[int]:
        ahead = set()
        is_hidden = name.startswith(".")
        for position in state:
            if position == len(self._segments) or (is_hidden and not self._may_be_hidden[position]):
                continue
            segment = self._segments[position]
            if segment is None:
                ahead |= {position, position + 1} if position == len(self._segments) - 1 else {position}
            elif segment.match(name):
                ahead.add(position + 1)
        return self._close(ahead) if ahead else _NOTHING

    def _close(self, state: set[int]) -> frozenset[int]:
        """Add what may be skipped: ``**`` also stands for no folder at all, unless it comes last."""
        return _closure(frozenset(state), self._is_any_depth)


_NOTHING: frozenset[int] = frozenset()


@lru_cache(maxsize=1024)
def _closure(state: frozenset[int], is_any_depth: tuple[bool, ...]) -> frozenset[int]:
    closed = set(state)
    for position, is_any in enumerate(is_any_depth[:-1]):
        if is_any and position in closed:
            closed.add(position + 1)
    return frozenset(closed)
