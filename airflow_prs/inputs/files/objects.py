"""List the objects that addresses and patterns match, by the rules for files in folders."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_prs.ahead import map_ahead
from airflow_prs.arrow_columns import of_numbers, to_numbers
from airflow_prs.errors import InputError
from airflow_prs.inputs.files.globs import Glob, has_magic
from airflow_prs.inputs.files.paths import PathColumn
from airflow_prs.object_storage.addresses import Address, Bucket, Kind, is_remote, parse_address
from airflow_prs.object_storage.connecting import connect_to
from airflow_prs.object_storage.requests import asking, etag_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

THREADS = 16
"""Requests that wait for an answer at the same time; one takes some 50 ms, but hardly any work here."""

_PAGE = 1000
"""The most keys in an answer of S3."""

_BEFORE_MAGIC = re.compile(r"[^*?\[]*")
_BAD_KEY = re.compile(r'(?:Error parsing )?Path "(.*?)"(?:: Encountered| contained empty)', re.DOTALL)
"""How obstore says that it cannot name a key."""

_AFTER_ALL = "\U0010ffff"
"""Text after all names."""

_UNORDERED = "--x-s3"
"""The end of the name of a directory bucket of S3, whose keys are listed in no order."""


@dataclass(frozen=True, slots=True)
class Objects:
    """
    The objects that an address or a pattern matches, in no particular order. They are held in columns.

    :param paths: addresses.
    :param sizes: sizes in bytes.
    :param etags: ETags.
    :param hint: what an error about an empty match adds.
    :param is_missing: whether an address without a pattern names nothing.
    """

    paths: pa.LargeStringArray
    sizes: npt.NDArray[np.int64]
    etags: pa.LargeStringArray
    hint: str = ""
    is_missing: bool = False

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, numbers: npt.NDArray[np.integer]) -> Objects:
        """Return some of the objects."""
        wanted = of_numbers(numbers)
        return replace(self, paths=self.paths.take(wanted), sizes=self.sizes[numbers], etags=self.etags.take(wanted))


def list_objects(path: str, *, published: str | None, are_tables: bool) -> Objects:
    """
    Return the objects that an address or a pattern matches.

    :param path: the address of an object; or of a folder, which is all objects whose keys begin with it and a slash; or
        a pattern. An address that exists is never a pattern. One that ends with a slash is a folder, if there is one.
    :param published: the result file, which is left out; None: there is none.
    :param are_tables: see ``list_files``.
    :raises InputError: if a key cannot be the path of a file.
    :raises StorageError: if the bucket cannot be listed.
    """
    address = parse_address(path)
    root, pattern = _split(address)
    is_folder = path.endswith("/") or not address.key
    if not pattern and not is_folder and (one := _head(root)) and (one["size"] or not _has_any(root)):
        return _only(root, one)
    segments = (*pattern, "**") if is_folder or not pattern else pattern
    search = _Search(root, Glob(segments, for_tables=are_tables), segments[0])
    objects = search.run(published)
    if len(objects):
        return objects
    if not search.has_seen_any:
        if not pattern and root.key and is_folder and (one := _head(root)):
            return _only(root, one)
        hint = f": there is nothing in {str(root)!r}" if pattern else ""
        return replace(objects, hint=hint, is_missing=not pattern and bool(root.key))
    hint = ""
    if search.glob.has_met_folder:
        hint = ", only folders; a glob that ends with '/**' matches the objects in them"
    if are_tables and len(_Search(root, Glob(segments), segments[0]).run(published)):
        hint = ", except objects in folders or with names that begin with '_', which a path to tables must name "
        hint += "explicitly"
    return replace(objects, hint=hint)


def list_folder(folder: Address) -> Objects:
    """
    Return all objects in a folder, also those with hidden names.

    :raises InputError: if a key cannot be the path of a file.
    :raises StorageError: if the bucket cannot be listed.
    """
    found = _Found(folder.bucket)
    for page in _list(folder):
        for one in page:
            if one["path"] != folder.key:  # it marks the folder
                found.add(one)
    return found.finish()


def _split(address: Address) -> tuple[Address, tuple[str, ...]]:
    """Split an address into the part before the first pattern, and the segments after it."""
    root = Address(address.bucket)
    names = address.key.split("/") if address.key else []
    for position, name in enumerate(names):
        ahead = root / name
        is_last = position == len(names) - 1
        if has_magic(name) and not _has_any(ahead) and not (is_last and _head(ahead)):
            return root, tuple(names[position:])
        root = ahead
    return root, ()


def _head(address: Address) -> Mapping[str, Any] | None:
    """Return the size and the ETag of an object; None: it does not exist."""
    try:
        with asking(address.bucket, address.key), _key_errors(address):
            return connect_to(address.bucket).objects.head(address.key)
    except FileNotFoundError:
        return None


def _has_any(folder: Address) -> bool:
    """Return whether there is an object in a folder."""
    return any(map(len, _list(folder)))


def _list(folder: Address, offset: str | None = None) -> Iterator[Sequence[Mapping[str, Any]]]:
    """
    Yield the objects in a folder and in its subfolders, page by page.

    :param offset: text that all keys come after; None: all keys are wanted.
    """
    with asking(folder.bucket, folder.key), _key_errors(folder):
        yield from connect_to(folder.bucket).bulk.list(folder.key or None, offset=offset, chunk_size=_PAGE)


@contextmanager
def _key_errors(place: Address) -> Iterator[None]:
    """Raise InputError in place of obstore's error about a key that it cannot name."""
    try:
        yield
    except Exception as error:
        if (found := _BAD_KEY.search(str(error))) is None:
            raise
        raise InputError(
            f"{str(place)!r} cannot be listed, since the key {found[1]!r} cannot be the path of a file. Rename this "
            "object, or use a path without it."
        ) from error


class _Found:
    """Collects objects of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._top = f"{bucket}/"
        self._paths = PathColumn()
        self._sizes = array("q")
        self._etags = PathColumn()

    def add(self, one: Mapping[str, Any]) -> None:
        """Add an object as obstore describes it."""
        path, etag = self._top + one["path"], etag_of(self._bucket, one)
        if not etag:
            raise InputError(f"{path!r} has no ETag, by which plan and nodes see whether an object has changed.")
        self._paths.append(path)
        self._sizes.append(one["size"])
        self._etags.append(etag)

    def finish(self) -> Objects:
        """Return the objects; none can be added afterwards."""
        import numpy as np

        return Objects(self._paths.finish(), np.asarray(self._sizes), self._etags.finish())


def _only(address: Address, one: Mapping[str, Any]) -> Objects:
    found = _Found(address.bucket)
    found.add(one)
    return found.finish()


class _Search:
    """
    Lists the objects in a folder, and matches their keys.

    :param root: the folder.
    :param glob: matches what follows after it.
    :param first: first segment of the glob.
    :ivar has_seen_any: whether there is an object in the folder.
    """

    def __init__(self, root: Address, glob: Glob, first: str) -> None:
        self.glob = glob
        self.has_seen_any = False
        self._root = root
        self._above = f"{root.key}/" if root.key else ""
        self._begin = _BEFORE_MAGIC.match(first)[0]  # type: ignore[index]
        self._is_ordered = not root.bucket.name.endswith(_UNORDERED)
        self._folders = PathColumn()
        self._way: list[tuple[str, frozenset[int] | None]] = [("", glob.start)]
        """Name and state of the folders on the way to the last object; no state: nothing in a folder can match."""

    def run(self, published: str | None) -> Objects:
        """
        Return the objects that match.

        :param published: see ``list_objects``.
        """
        found = _Found(self._root.bucket)
        result = _Result(published, self._root.bucket)
        cut = len(self._above)
        last: str | None = None
        is_wanted: Callable[[str], object] = _is_none
        for page in self._pages():
            for one in page:
                folder, _, name = one["path"][cut:].rpartition("/")
                if folder != last:
                    is_wanted, last = self._enter(folder), folder
                if is_wanted(name) and not result.is_at(one):
                    found.add(one)
        return self._without_markers(found.finish())

    def _enter(self, folder: str) -> Callable[[str], object]:
        """Return the function that tells by its name whether an object in a folder matches."""
        names = folder.split("/") if folder else []
        known = [name for name, _ in self._way[1:]]
        same = next((n for n, pair in enumerate(zip(names, known, strict=False)) if pair[0] != pair[1]), None)
        same = min(len(names), len(known)) if same is None else same
        del self._way[same + 1 :]
        for name in names[same:]:
            state = self._way[-1][1]
            self._way.append((name, None if state is None else self.glob.enters(name, state)))
            self._folders.append(self._way_as_path(len(self._way)))
        state = self._way[-1][1]
        return _is_none if state is None else self.glob.takes(state)

    def _way_as_path(self, depth: int) -> str:
        names = "/".join(name for name, _ in self._way[1:depth])
        return f"{self._root.bucket}/{self._above}{names}"

    def _pages(self) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the objects that may match, page by page; most others are skipped."""
        offset = self._offset()
        while True:
            unwanted = None
            for page in _list(self._root, offset):
                self.has_seen_any = self.has_seen_any or bool(page)
                yield page
                if self._is_past(page):
                    return
                if (unwanted := self._unwanted(page)) is not None:
                    break
            if unwanted is None:
                return
            offset = f"{unwanted}/{_AFTER_ALL}"

    def _offset(self) -> str | None:
        """Return text that comes after nearly all keys before the first one that can match; None: there is none."""
        if not (self._begin and self._is_ordered):
            return None
        # Keys come after an offset, but the first one may equal the beginning of the pattern.
        before = chr(ord(self._begin[-1]) - 1)
        return f"{self._above}{self._begin[:-1]}{before}{_AFTER_ALL}" if before.isprintable() else None

    def _is_past(self, page: Sequence[Mapping[str, Any]]) -> bool:
        """
        Return whether no key after a page can match.

        Names are compared and not keys, since some servers sort folder by folder.
        """
        if not (self._begin and self._is_ordered and page):
            return False
        name = page[-1]["path"][len(self._above) :].partition("/")[0]
        return bool(name > self._begin and not name.startswith(self._begin))

    def _unwanted(self, page: Sequence[Mapping[str, Any]]) -> str | None:
        """
        Return the folder that holds all objects of a page, if nothing in it can match: the rest of it can be skipped.

        On Azure this is no faster, as the client lists the keys before an offset too.
        """
        if len(page) < _PAGE or not self._is_ordered or self._root.bucket.kind is not Kind.S3:
            return None
        depth = next((depth for depth, (_, state) in enumerate(self._way) if state is None), None)
        if depth is None:
            return None
        folder = self._way_as_path(depth + 1).removeprefix(f"{self._root.bucket}/")
        return folder if page[0]["path"].startswith(f"{folder}/") else None

    def _without_markers(self, objects: Objects) -> Objects:
        """
        Return the objects without those that mark folders: they are empty, and have the key of a folder.

        :raises InputError: if another object has the key of a folder, or two objects have the same key.
        """
        import numpy as np
        import pyarrow.compute as pc

        is_folder = to_numbers(pc.is_in(objects.paths, self._folders.finish()).cast("uint8")).astype(bool)
        is_empty = objects.sizes == 0
        for number in np.flatnonzero(is_folder & ~is_empty)[:1]:
            raise InputError(
                f"{objects.paths[number].as_py()!r} is an object, and also a folder with other objects, which files "
                "cannot be; rename it, or use a path without it."
            )
        unsure = np.flatnonzero(is_empty & ~is_folder)
        is_marker = is_folder.copy()
        # obstore names an object without the slash at its end. So only a request tells whether a file has this name.
        keys = (objects.paths[number].as_py().removeprefix(f"{self._root.bucket}/") for number in unsure.tolist())
        heads = map_ahead(lambda key: _head(replace(self._root, key=key)), keys, threads=THREADS)
        for number, head in zip(unsure.tolist(), heads, strict=True):
            is_marker[number] = head is None or head["size"] > 0
        kept = objects.take(np.flatnonzero(~is_marker)) if is_marker.any() else objects
        if pc.count_distinct(kept.paths).as_py() < len(kept):
            counts = pc.value_counts(kept.paths)
            twice = counts.filter(pc.greater(counts.field("counts"), of_numbers(np.ones(1, np.int64))[0]))
            raise InputError(
                f"there are two objects for {twice.field('values')[0].as_py()!r}, one of them with another slash at an "
                "end; rename one of them, or use a path without it."
            )
        return kept


def _is_none(_: str) -> bool:
    return False


class _Result:
    """
    The result file, which is not input under any path.

    :param path: path of the result file; None: there is none.
    :param bucket: bucket of the objects that are compared with it.
    """

    def __init__(self, path: str | None, bucket: Bucket) -> None:
        self._address = parse_address(path) if path is not None and is_remote(path) else None
        if self._address is not None and replace(self._address.bucket, conn_id=None) != replace(bucket, conn_id=None):
            self._address = None
        self._is_same_connection = self._address is not None and self._address.bucket == bucket

    def is_at(self, one: Mapping[str, Any]) -> bool:
        """Return whether an object is the result file."""
        if self._address is None or one["path"] != self._address.key:
            return False
        if self._is_same_connection:
            return True
        # Two connections may lead to the same bucket, or to two with the same name.
        head = _head(self._address)
        return head is not None and etag_of(self._address.bucket, head) == etag_of(self._address.bucket, one)
