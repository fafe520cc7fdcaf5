"""Partitioned copies on object storage, where no folder can be renamed: an index says which objects are the copy."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from airflow_prs.ahead import map_ahead
from airflow_prs.errors import StorageError, SupersededError
from airflow_prs.inputs.copies.copying import not_a_folder, not_own
from airflow_prs.inputs.copies.partitioned_copy import CopyIndex, PartitionedCopy, read_index, write_index
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.object_storage.addresses import Address
from airflow_prs.store.opening import open_store
from airflow_prs.store.probing import probe_store

_INDEXES = ".partitions/"
_OWN = re.compile(rf"(?:[^/]*=[^/]*/)+rows-[0-9a-f]{{32}}\.parquet|{re.escape(_INDEXES)}.*")
_CHUNK_BYTES = 8 << 20


class ObjectTarget:
    """
    The folder of a copy on object storage.

    Each writer gives its files names of their own. Then it creates the index with the next number, which only one of
    several writers can do, and removes what was there before: the older copy, and what others have begun. They have
    all looked at an older index, so none of them can create the next one, however late it tries; they remove their own
    files instead.

    :param name: name of the input.
    :param target: the folder.
    """

    def __init__(self, name: str, target: Address) -> None:
        self._name = name
        self._target = target
        self._store = open_store(target)
        self._number = -1
        self._listing = Listing.of(())
        self._sizes: dict[str, int] = {}

    def read(self, digest: str) -> PartitionedCopy | None:
        """
        Return the copy; None: it is to be written.

        :param digest: see ``copy_digest``.
        :raises ConfigError: if it is to be written, but the target holds other objects.
        """
        while True:
            self._look()
            self._number = max(map(_number_of, self._sizes), default=-1)
            index = self._read_index()
            if index is None or index.digest != digest or not index.sizes.items() <= self._sizes.items():
                self._require_own()
                return None
            # Whoever wrote it may have been killed before it removed the others. Nothing may be removed from under
            # another writer, so the index gets a new number, with which that one comes too late.
            if not self._others(index.copy()) - {_index_key(self._number)} or self._publish(index.copy(), digest):
                return index.copy().below(str(self._target))

    def write(self, make: Callable[[Path], PartitionedCopy], digest: str) -> PartitionedCopy:
        """
        Write the copy, after ``read`` has found none. It replaces an older copy, but no other objects.

        :param make: writes the copy into a local folder, which does not exist yet.
        :param digest: see ``copy_digest``.
        :raises RunFolderError: if the storage lets two writers create the same object.
        :raises SupersededError: if another plan has put other rows there meanwhile.
        """
        probe_store(self._store, _INDEXES)
        ending = f"rows-{uuid4().hex}.parquet"
        with TemporaryDirectory(prefix="airflow_prs-plan-") as place:
            folder = Path(place, "copy")
            made = make(folder)
            files = {f"{Path(path).parent.relative_to(folder)}/{ending}": path for path in made.paths}
            # One that has slept since another plan has written must not put anything beside that copy.
            if self._newest() == self._number:
                self._upload(files)
        copy = replace(made, paths=list(files))
        if self._publish(copy, digest):
            return copy.below(str(self._target))
        self._store.delete(files)
        if (theirs := self.read(digest)) is not None:
            return theirs
        raise SupersededError(
            f"Another plan has put a copy of other rows into {self._target}, the target of {self._name!r}, while this "
            "one was writing there. Runs that go on at the same time need targets of their own."
        )

    def listing(self, copy: PartitionedCopy) -> Listing:
        """Return the files of the copy that was read or written, in their order."""
        return self._listing.only(copy.paths)

    def _look(self) -> None:
        self._listing = Listing.below(self._target)
        begin = len(f"{self._target}/")
        sizes = self._listing.sizes.tolist()
        self._sizes = {path[begin:]: size for path, size in zip(self._listing.paths, sizes, strict=True)}

    def _newest(self) -> int:
        return max(map(_number_of, self._store.list(_INDEXES)), default=-1)

    def _read_index(self) -> CopyIndex | None:
        data = None if self._number < 0 else self._store.get(_index_key(self._number))
        return None if data is None else read_index(io.BytesIO(data))

    def _others(self, copy: PartitionedCopy) -> set[str]:
        """Return what writers of copies have left beside the files of one."""
        return set(filter(_OWN.fullmatch, self._sizes)).difference(copy.paths)

    def _require_own(self) -> None:
        # An empty object marks a folder.
        for path, size in self._sizes.items():
            if size and not _OWN.fullmatch(path):
                raise not_own(self._name, self._target, path)
        if self._target.key:
            itself = open_store(self._target.parent).stat(self._target.name)
            if itself is not None and itself.size:
                raise not_a_folder(self._name, self._target, "an object")

    def _upload(self, files: dict[str, str]) -> None:
        def send(key: str) -> None:
            with Path(files[key]).open("rb") as file, self._store.writer(key) as out:
                shutil.copyfileobj(file, out, _CHUNK_BYTES)

        try:
            with closing(map_ahead(send, files, threads=self._store.together)) as sending:
                for _ in sending:
                    pass
        except BaseException:
            with suppress(OSError):
                self._store.delete(files)
            raise

    def _publish(self, copy: PartitionedCopy, digest: str) -> bool:
        """
        Create the next index, and remove everything that it does not name.

        :param copy: with paths relative to the target.
        :return: False: another writer has been quicker.
        """
        number = self._number + 1
        self._look()
        if self._newest() != self._number:
            return False
        if missing := [path for path in copy.paths if path not in self._sizes]:
            raise StorageError(f"{self._target}/{missing[0]} was written, but the storage does not list it")
        index = io.BytesIO()
        sizes = [self._sizes[path] for path in copy.paths]
        write_index(index, copy, sizes, digest=digest, writer=uuid4().hex)
        # Older indexes are removed, so that somebody who has slept may create one of a number that was there before.
        if not self._store.create(_index_key(number), index.getvalue()):
            return False
        if self._newest() != number:
            self._store.delete([_index_key(number)])
            return False
        self._store.delete(self._others(copy))
        return True


def _index_key(number: int) -> str:
    return f"{_INDEXES}{number:010d}"


def _number_of(key: str) -> int:
    """Return the number of an index; -1: the key is not that of one."""
    number = key.removeprefix(_INDEXES)
    return int(number) if key.startswith(_INDEXES) and number.isdecimal() else -1
