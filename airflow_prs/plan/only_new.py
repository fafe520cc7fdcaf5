"""Leave out the files of inputs with ``only_new=True`` that an earlier run of the task has processed."""

from __future__ import annotations

import itertools
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar, to_numbers
from airflow_prs.errors import RunFolderError
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.plan.reuse import is_same_run
from airflow_prs.records import RunIdentity
from airflow_prs.run_folder.committed import Committed, read_published
from airflow_prs.run_folder.failures import find_failures
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.wording import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


logger = logging.getLogger(__name__)

_MOST_RUNS: Final = 100
"""How many of the newest completed runs are looked at."""
_CHUNK: Final = 65536
_UNREADABLE = (ValueError, KeyError, TypeError, RunFolderError)
"""What a damaged run folder, or one of another version, raises. Storage that fails is another matter: plan fails."""


@dataclass(frozen=True, slots=True)
class Selection:
    """
    The files of an input that a run processes.

    :param listing: these files.
    :param problem: why no file is left; None: some are.
    """

    listing: Listing
    problem: str | None
    _all: Listing
    _is_new: npt.NDArray[np.bool_]

    def seen(self) -> Iterator[pa.RecordBatch]:
        """Yield all files of the input, for run_folder.seen_files.write_seen."""
        import pyarrow as pa

        for number, (paths, versions) in enumerate(_chunks(self._all)):
            is_new = self._is_new[number * _CHUNK : (number + 1) * _CHUNK]
            columns = {"path": paths, "version": versions, "is_new": of_numbers(is_new.view("u1")).cast("bool")}
            yield pa.RecordBatch.from_arrays([*columns.values()], names=[*columns])


_NOT_ALL_SEEN = "it is not known which files each input had: only_new was not set for all of them"


@dataclass(frozen=True, slots=True)
class _Earlier:
    """
    A completed run with the same work.

    :param run: its name, for messages.
    :param seen: the files of each input.
    :param failed: the indices of each input's failed mini-batches, with the paths of their files.
    :param failed_items: where they are listed.
    """

    run: str
    seen: Mapping[str, pa.Table]
    failed: Mapping[str, Mapping[int, list[str]]]
    failed_items: str


class OnlyNew:
    """
    Decides which files a run processes.

    :param names: the inputs with ``only_new=True``.
    :param work: digest of each part of the work, without the files; None: a part is not known.
    :param identity: identity of the run.
    """

    def __init__(self, names: Iterable[str], work: Mapping[str, str] | None, identity: RunIdentity) -> None:
        self._names = list(names)
        self._work = work
        self._identity = identity
        self._own: Mapping[str, pa.Table] = {}
        self._earlier: _Earlier | None = None
        self._failed_paths: Mapping[str, list[str]] = {}

    def look(self, own: RunFolder | None, runs: Iterable[RunFolder]) -> None:
        """
        Look for what was processed, and log why nothing is left out if nothing is found.

        :param own: the folder of the newest execution of plan in this run; None: there is none.
        :param runs: the run folders of the task, newest first.
        """
        if self._work is None:
            logger.warning(
                "only_new: no file is left out, because environment variables or packages cannot be compared with "
                "those of earlier runs."
            )
            return
        try:
            self._own = (own and self._read_seen(own)) or {}
        except _UNREADABLE as error:
            logger.warning("only_new: the plan before in this run cannot be read: %s", error)
        self._earlier = earlier = self._find_earlier(runs)
        if earlier is not None:
            of_inputs = {name: earlier.failed.get(name, {}).values() for name in self._names}
            self._failed_paths = {name: sorted(itertools.chain(*paths)) for name, paths in of_inputs.items()}

    def select(self, name: str, listing: Listing, *, are_tables: bool) -> Selection:
        """
        Return the files of an input that the run processes.

        :param name: name of the input.
        :param listing: all of its files.
        :param are_tables: whether the items are rows.
        """
        import numpy as np

        compared = [self._compare(name, *chunk, are_tables=are_tables) for chunk in _chunks(listing)]
        is_new = np.concatenate([np.empty(0, np.bool_), *(is_new for is_new, _ in compared)])
        rest = listing.where(is_new)
        failed = sum(failed for _, failed in compared)
        self._tell(name, len(listing), len(rest), failed, are_tables=are_tables)
        problem = None
        if len(listing) and not len(rest):
            problem = f"input {name!r}: all {counted(len(listing), 'file')} were processed by {self._by}"
        return Selection(rest, problem, listing, is_new)

    def _compare(
        self, name: str, paths: pa.Array, versions: pa.Array, *, are_tables: bool
    ) -> tuple[npt.NDArray[np.bool_], int]:
        """Return for each file whether this run processes it, and how many of these failed in the earlier run."""
        import pyarrow.compute as pc

        keys = _joined(paths, versions)
        is_old = has_failed = _is_in(keys, keys[:0])
        if self._earlier is not None:
            seen = _between(self._earlier.seen[name], paths)
            is_old = _is_in(keys, _keys_of(seen))
            if not are_tables:
                failed = _between_texts(self._failed_paths[name], paths)
                has_failed = _is_in(keys, _keys_of(seen.filter(_is_in(seen["path"], failed))))
                is_old = pc.and_not(is_old, has_failed)
        if name in self._own:
            # What a plan of this run has decided stays, whatever other runs have done since.
            own = _between(self._own[name], paths)
            is_old = pc.and_not(is_old, _is_in(keys, _keys_of(own.filter(own["is_new"]))))
            is_old = pc.or_(is_old, _is_in(keys, _keys_of(own.filter(pc.invert(own["is_new"])))))
        is_new = pc.invert(is_old)
        failed_again = pc.sum(pc.and_(is_new, has_failed)).as_py() or 0
        return to_numbers(is_new.cast("uint8")).astype("bool"), failed_again

    @property
    def _by(self) -> str:
        return "earlier runs" if self._earlier is None else f"run {self._earlier.run} or before it"

    def _tell(self, name: str, total: int, new: int, failed: int, *, are_tables: bool) -> None:
        earlier = self._earlier
        if earlier is None and name not in self._own:
            return
        again = f", {failed:,} of them failed then" if failed else ""
        as_before = " The plan before in this run has decided about the files that it listed." * (name in self._own)
        logger.info(
            "input %r: %s of %s were processed by %s; %s new%s.%s",
            name,
            f"{total - new:,}",
            counted(total, "file"),
            self._by,
            "1 is" if new == 1 else f"{new:,} are",
            again,
            as_before,
        )
        if are_tables and earlier is not None and (count := len(earlier.failed.get(name, {}))):
            logger.warning(
                "input %r: %s of run %s failed. Their rows are not processed again, because the other rows of their "
                "files are in the result of that run. They are listed in %s.",
                name,
                counted(count, "mini-batch", "mini-batches"),
                earlier.run,
                earlier.failed_items,
            )

    def _find_earlier(self, runs: Iterable[RunFolder]) -> _Earlier | None:
        """Return the newest completed run with the same work; None: there is none, and the log says why."""
        first: str | None = None
        for folder, run in itertools.islice(self._completed(runs), _MOST_RUNS):
            try:
                why_not = self._why_not(folder)
                if why_not is None and (seen := self._read_seen(folder)) is not None:
                    committed = read_published(folder)
                    return _Earlier(run, seen, _find_failed(committed), str(folder.names.failed_items))
            except _UNREADABLE as error:
                logger.warning("only_new: %s is completed, but cannot be read: %s", folder.path, error)
                continue
            first = first or f"of the newest completed run ({run}) {why_not or _NOT_ALL_SEEN}"
        logger.info("only_new: no file is left out: %s.", first or "no earlier run of this task is completed")
        return None

    def _completed(self, runs: Iterable[RunFolder]) -> Iterator[tuple[RunFolder, str]]:
        for folder in runs:
            try:
                report = folder.read_report()
                if report is None or report["status"] != "completed":
                    continue
                settings = folder.read_planned_settings()
            except _UNREADABLE:
                continue
            if not is_same_run(settings, self._identity):
                yield folder, settings.identity.run_id

    def _why_not(self, folder: RunFolder) -> str | None:
        """Return in what the work of a run differs; None: it does not."""
        work = self._work or {}
        seen = folder.open_seen(self._names[0])
        if seen is None:
            return "it is not known which files it had: only_new was not set"
        changed = sorted(part for part in {*work, *seen.work} if work.get(part) != seen.work.get(part))
        return f"these parts differ: {', '.join(changed)}" if changed else None

    def _read_seen(self, folder: RunFolder) -> Mapping[str, pa.Table] | None:
        """Return the files of each input as a run has seen them; None: its work is not the same."""
        found = {name: folder.open_seen(name) for name in self._names}
        same = {name: seen.read() for name, seen in found.items() if seen is not None and seen.work == self._work}
        return same if len(same) == len(found) else None


def _find_failed(committed: Committed) -> Mapping[str, Mapping[int, list[str]]]:
    failed: dict[str, dict[int, list[str]]] = {}
    for state in committed.states:
        for mini_batch, spans, _ in find_failures(committed, state):
            pieces = mini_batch.pieces
            items = pieces if mini_batch.has_rows else [piece for begin, end in spans for piece in pieces[begin:end]]
            failed.setdefault(mini_batch.input, {})[mini_batch.index] = [piece.path for piece in items]
    return failed


def _chunks(listing: Listing) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Yield the paths and the versions of the files, some at a time, so that a million need little memory."""
    for begin in range(0, len(listing), _CHUNK):
        some = slice(begin, begin + _CHUNK)
        yield listing.paths.take(some), listing.versions(some).cast("large_string")


def _between(seen: pa.Table, paths: pa.Array) -> pa.Table:
    """Return the files from the first to the last of some paths; both are sorted."""
    begin = bisect_left(seen["path"], paths[0].as_py(), key=_as_py)
    end = bisect_right(seen["path"], paths[-1].as_py(), key=_as_py)
    return seen.slice(begin, end - begin)


def _between_texts(texts: Sequence[str], paths: pa.Array) -> pa.Array:
    found = texts[bisect_left(texts, paths[0].as_py()) : bisect_right(texts, paths[-1].as_py())]
    return of_texts(found).cast("large_string")


def _as_py(scalar: pa.Scalar) -> Any:
    return scalar.as_py()


def _keys_of(seen: pa.Table) -> pa.ChunkedArray:
    return _joined(seen["path"], seen["version"])


def _joined(paths: pa.Array, versions: pa.Array) -> pa.Array:
    """Return one text for each file. A version has no line break, so two files never have the same text."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(versions, paths, text_scalar("\n").cast("large_string"))


def _is_in(keys: pa.Array, others: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.is_in(keys, value_set=others)
