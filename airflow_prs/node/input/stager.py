"""
The stager of a node: makes local copies of the input that is next, and removes them after use.

It belongs to the event loop of the supervisor; only requests and writing run in threads.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from airflow_prs.errors import StagingError
from airflow_prs.node.input.download import Contents, Download
from airflow_prs.node.input.fetching import PART_BYTES, Fetcher
from airflow_prs.node.input.parts import NO_FRAME, Frames, has_frame, ranges_of
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.remote_file import RemoteFile
from airflow_prs.object_storage.addresses import is_remote, parse_address
from airflow_prs.records import DIRECT, InputKind, InputSpec, MiniBatch, Piece

MOST_BYTES = 4 * 1024**3
MOST_FILES = 2000
_SHARE_OF_DISK = 4
"""A node uses a fourth of the free disk at most: others may run on the same machine."""
_CLOSE_S = 2.0
_POLL_S = 0.005
_REMOVING = -1
"""The urgency of removing: it makes room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """
    How the staging of a mini-batch has ended.

    :param paths: for each piece, what a worker process opens or passes to run(); None: the pieces' own paths.
    :param error: why it could not be staged; '': it could.
    :param started: when it began, seconds since the epoch (UTC).
    :param duration_s: how long it took.
    """

    paths: tuple[str, ...] | None = None
    error: str = ""
    started: float = 0.0
    duration_s: float = 0.0


NOTHING_TO_STAGE = Staged()


@dataclass(slots=True, kw_only=True, eq=False)
class _Copy:
    """
    Local copies in one folder, which are removed together: the files of a mini-batch, or a part of a table file.

    :param users: mini-batches that need it.
    :param left: downloads that have not ended.
    :param bytes: how many bytes there is room for once it is removed.
    :param files: how many files there is room for then.
    """

    key: Any
    number: int
    users: int = 0
    left: int = 0
    error: str = ""
    bytes: int = 0
    files: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class _Staging:
    """A mini-batch whose files are wanted here."""

    mini_batch: MiniBatch
    copies: list[_Copy] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    since: float = field(default_factory=time.monotonic)
    result: Staged = NOTHING_TO_STAGE


class Stager:
    """
    Makes local copies of mini-batches whose files are on object storage.

    A copy is used by all mini-batches that need it at the same time: the parts of a row group, for example.

    :param places: where the copies are.
    :param specs: the inputs of the run.
    :param on_change: called in the event loop when the staging of a mini-batch may have ended.
    :param on_read: called in a thread with the number of bytes that were read from object storage.
    :param redact: masks secrets in errors.
    :param most_bytes: how much is staged ahead; None: MOST_BYTES, or less on a small disk. A larger mini-batch is
        staged alone.
    :param most_files: how many files, or parts of table files, are staged ahead; None: MOST_FILES.
    """

    def __init__(
        self,
        places: Places,
        specs: Sequence[InputSpec],
        *,
        on_change: Callable[[], None],
        on_read: Callable[[int], None] = lambda _: None,
        redact: Callable[[str], str] = str,
        most_bytes: int | None = None,
        most_files: int | None = None,
    ) -> None:
        self._places = places
        self._specs = {spec.name: spec for spec in specs}
        self._frames = Frames(self._specs)
        self._on_change = on_change
        self._on_read = on_read
        self._redact = redact
        self._most_bytes = most_bytes
        self._most_files = most_files or MOST_FILES
        self._fetcher = Fetcher()
        self._copies: dict[Any, _Copy] = {}
        self._stagings: dict[int, _Staging] = {}
        self._bytes = self._files = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def has_room_for(self, mini_batch: MiniBatch) -> bool:
        """
        Return whether a mini-batch may be staged now: it fits, or it has begun already, or nothing else is here.

        So a mini-batch that is larger than the limits is staged, too.
        """
        if not self._files or mini_batch.index in self._stagings or not self._is_copied(mini_batch):
            return True
        if self._most_bytes is None:
            self._most_bytes = min(MOST_BYTES, shutil.disk_usage(self._places.root.parent).free // _SHARE_OF_DISK)
        fits = self._bytes + mini_batch.size_bytes <= self._most_bytes
        return fits and self._files + len(mini_batch.pieces) <= self._most_files

    def begin(self, mini_batch: MiniBatch) -> bool:
        """Stage a mini-batch, unless it is being staged already; return False if it needs no local copies."""
        if mini_batch.index in self._stagings:
            return True
        if not self._is_copied(mini_batch):
            return False
        staging = _Staging(mini_batch=mini_batch)
        self._stagings[mini_batch.index] = staging
        self._bytes += mini_batch.size_bytes
        self._files += len(mini_batch.pieces)
        try:
            staging.result = Staged(paths=tuple(self._paths(staging)), started=staging.started)
        except StagingError as error:
            staging.result = Staged(error=str(error), started=staging.started)
        return True

    def find(self, mini_batch: MiniBatch) -> Staged | None:
        """Return how the staging of a mini-batch has ended, and begin it if necessary; None: it has not ended."""
        if not self.begin(mini_batch):
            return self._direct(mini_batch)
        staging = self._stagings[mini_batch.index]
        error = next((copy.error for copy in staging.copies if copy.error), "")
        if not error and any(copy.left for copy in staging.copies):
            return None
        return replace(staging.result, error=staging.result.error or error, duration_s=time.monotonic() - staging.since)

    async def stage(self, mini_batch: MiniBatch) -> Staged:
        """Stage a mini-batch, and wait until that has ended."""
        while (staged := self.find(mini_batch)) is None:  # noqa: ASYNC110 - for runs in a terminal only
            await asyncio.sleep(_POLL_S)
        return staged

    def release(self, index: int) -> None:
        """Remove what a mini-batch has used, unless others need it."""
        staging = self._stagings.pop(index, None)
        if staging is None:
            return
        for copy in staging.copies:
            copy.users -= 1
        unused = [copy for copy in staging.copies if not copy.users]
        size_bytes, files = staging.mini_batch.size_bytes, len(staging.mini_batch.pieces)
        if unused:
            unused[0].bytes, unused[0].files = size_bytes, files
        else:
            self._give_room(size_bytes, files)
        for copy in unused:
            self._forget(copy)
            if not copy.left:
                self._remove(copy)

    def close(self) -> None:
        """Stop. Requests under way are abandoned; the caller removes the folder."""
        self._fetcher.close(_CLOSE_S if self._loop is not None else 0)

    def _is_direct(self, mini_batch: MiniBatch) -> bool:
        return self._specs[mini_batch.input].options.get("mode") == DIRECT

    def _is_copied(self, mini_batch: MiniBatch) -> bool:
        return _is_on_storage(mini_batch) and not self._is_direct(mini_batch)

    def _direct(self, mini_batch: MiniBatch) -> Staged:
        if not _is_on_storage(mini_batch):
            return NOTHING_TO_STAGE
        return Staged(paths=tuple(_without_connection(piece.path) for piece in mini_batch.pieces))

    # Copies

    def _paths(self, staging: _Staging) -> list[str]:
        """Return what stands for the paths of the pieces, and have the copies made."""
        mini_batch = staging.mini_batch
        spec = self._specs[mini_batch.input]
        find = self._path_of_file if spec.kind is InputKind.FILES else self._path_of_part
        paths: dict[Piece, str] = {}
        for piece in mini_batch.pieces:
            if piece not in paths:
                paths[piece] = find(staging, spec, piece) if is_remote(piece.path) else piece.path
        return [paths[piece] for piece in mini_batch.pieces]

    def _path_of_file(self, staging: _Staging, spec: InputSpec, piece: Piece) -> str:
        # The files of a mini-batch are in one folder, so that their paths relate as on the storage.
        copy, _ = self._copy_for(staging, staging.mini_batch.index)
        return self._add(copy, staging, spec, piece)

    def _path_of_part(self, staging: _Staging, spec: InputSpec, piece: Piece) -> str:
        part = (piece.begin, piece.end) if piece.row_group is None else piece.row_group
        copy, is_new = self._copy_for(staging, (spec.name, piece.path, piece.version, part))
        if is_new:
            return self._add(copy, staging, spec, piece)
        return self._places.path(copy.number, parse_address(piece.path))

    def _copy_for(self, staging: _Staging, key: Any) -> tuple[_Copy, bool]:
        """Return the copy of a key, and whether it is new."""
        copy = self._copies.get(key)
        is_new = copy is None
        if copy is None:
            copy = self._copies[key] = _Copy(key=key, number=self._places.next_number())
        if copy not in staging.copies:
            staging.copies.append(copy)
            copy.users += 1
        return copy, is_new

    def _add(self, copy: _Copy, staging: _Staging, spec: InputSpec, piece: Piece) -> str:
        """Have a file of a copy made, and return its path."""
        address = parse_address(piece.path)
        path = self._places.path(copy.number, address)
        file = RemoteFile(address, piece.version, self._fetcher.is_over)
        copy.left += 1
        self._loop = asyncio.get_running_loop()
        Download(
            self._fetcher,
            file,
            path,
            urgency=staging.mini_batch.index,
            find_contents=partial(self._find_contents, file, spec, piece, staging.mini_batch.size_bytes),
            is_wanted=lambda: copy.users > 0 and not copy.error,
            on_read=self._on_read,
            on_end=partial(self._call, self._take_end, copy),
        ).begin()
        return path

    def _find_contents(self, file: RemoteFile, spec: InputSpec, piece: Piece, size_bytes: int) -> Contents:
        """Return what a local file consists of; runs in a thread."""
        if piece.begin is not None:
            frame = self._frames.find(file, spec.name) if has_frame(spec, piece) else NO_FRAME
            return frame, ranges_of(piece, frame)
        return NO_FRAME, None if size_bytes <= PART_BYTES else [(0, file.size())]

    def _call(self, take: Callable[..., None], *arguments: Any) -> None:
        # The event loop may be closed.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(take, *arguments)

    def _take_end(self, copy: _Copy, error: str) -> None:
        copy.left -= 1
        if error and not copy.error:
            copy.error = self._redact(self._places.as_planned(error))
            # The next try makes another one.
            self._forget(copy)
        if not copy.left and not copy.users:
            self._remove(copy)
        if not copy.left or error:
            self._on_change()

    def _forget(self, copy: _Copy) -> None:
        if self._copies.get(copy.key) is copy:
            del self._copies[copy.key]

    def _remove(self, copy: _Copy) -> None:
        def remove() -> None:
            shutil.rmtree(self._places.folder(copy.number), ignore_errors=True)
            self._call(self._give_room, copy.bytes, copy.files)

        self._fetcher.submit(_REMOVING, remove)

    def _give_room(self, size_bytes: int, files: int) -> None:
        self._bytes -= size_bytes
        self._files -= files
        self._on_change()


def _is_on_storage(mini_batch: MiniBatch) -> bool:
    # To search all paths together is three times faster, and most are local.
    paths = [piece.path for piece in mini_batch.pieces]
    return "://" in "".join(paths) and any(map(is_remote, paths))


def _without_connection(path: str) -> str:
    if not is_remote(path):
        return path
    address = parse_address(path)
    return str(replace(address, bucket=replace(address.bucket, conn_id=None)))
