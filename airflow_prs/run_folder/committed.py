"""What counts of a run, read once, so that judging, publishing and reporting use the same counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import DamagedError, PrsError, RunFolderError
from airflow_prs.records import Manifest, Progress
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.log import LAG_S, wait_for
from airflow_prs.run_folder.rows_files import RowsObject, list_rows
from airflow_prs.run_folder.shard_log import read_content, read_shard_at
from airflow_prs.run_folder.tries import TriesIndex
from airflow_prs.settings import RunSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.run_folder.outcomes import Content
    from airflow_prs.run_folder.shard_log import ShardState


_KEPT_OUTCOMES = 1_000_000
"""Outcomes of up to this many mini-batches, about 90 MB, are kept in memory; larger runs read them for each use."""


@dataclass(frozen=True, kw_only=True)
class Committed:
    """
    The states of a run's shards, read once.

    :param folder: run folder with the outcomes and rows: that of an earlier run if its result is reused.
    :param states: states of its shards, in the order of the input.
    """

    folder: RunFolder
    states: tuple[ShardState, ...]
    _kept: dict[int, Content] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def progress(self) -> Progress:
        """The run's counts."""
        return sum((state.progress for state in self.states), Progress())

    @property
    def positions(self) -> dict[int, int]:
        """Shard number to the number of the last record of its log."""
        return {state.shard.number: state.number for state in self.states}

    def read_positions(self) -> dict[int, int]:
        """Return what ``positions`` are now: one request for each shard that has not gone on."""
        known = [(state.shard, state) for state in self.states]
        return {state.shard.number: state.number for state in self.folder.read_shards(known)}

    def outcomes(self, state: ShardState) -> npt.NDArray[Any]:
        """
        Return a shard's outcomes, one for each mini-batch at most, sorted by index; see outcomes.outcome_type().

        :raises RunFolderError: if they are damaged or missing, or their number differs from the shard's counts.
        """
        return self._content(state).outcomes

    def rows_path(self, state: ShardState) -> Callable[[int, int], Path]:
        """Return a function that returns the path of a rows file, by writer and process of an outcome."""
        writers, names = state.writers, self.folder.names
        return lambda writer, process: names.rows(writers[writer], process)

    def rows_objects(self, state: ShardState) -> list[list[RowsObject]]:
        """Return the objects with the rows of each writer of a shard's outcomes, on object storage."""
        return [list_rows(self.folder.store, writer) for writer in state.writers]

    def require_rows(self, state: ShardState) -> None:
        """
        Check that the rows of a shard are there; their contents are checked where they are read.

        :raises DamagedError: if some are gone.
        """
        import numpy as np

        if not isinstance(self.folder.path, Path):
            self._require_objects(state)
            return
        outcomes, path = self.outcomes(state), self.rows_path(state)
        places = np.unique(outcomes[outcomes["length"] > 0][["writer", "process"]])
        for writer, process in places.tolist():
            if not path(writer, process).is_file():
                raise DamagedError(f"{path(writer, process)} is gone. Clear the plan task to start over.")

    def _require_objects(self, state: ShardState) -> None:
        import numpy as np

        outcomes = self.outcomes(state)
        for number, objects in enumerate(self.rows_objects(state)):
            own = outcomes[(outcomes["writer"] == number) & (outcomes["length"] > 0)]
            ends = np.array([0, *(each.end for each in objects)])
            place = np.searchsorted([each.begin for each in objects], own["offset"], side="right")
            if (missing := own[own["offset"] + own["length"] > ends[place]]).size:
                raise DamagedError(
                    f"rows of mini-batch {missing['index'][0]} in {self.folder.path} are gone. Clear the plan task to "
                    "start over."
                )

    def nodes(self, state: ShardState) -> list[str]:
        """Return the name of the node of each writer of a shard's outcomes."""
        return [writer.node for writer in state.writers]

    def tries(self, state: ShardState) -> TriesIndex:
        """Return the failed tries of a shard."""
        return TriesIndex(self.folder.store, state.shard, self._content(state).tries)

    def _content(self, state: ShardState) -> Content:
        number = state.shard.number
        if number in self._kept:
            return self._kept[number]
        content = read_content(self.folder.store, state)
        if len(content.outcomes) != state.progress.done:
            raise DamagedError(
                f"shard {number} of {self.folder.path} is damaged: it has {len(content.outcomes)} outcomes, "
                f"{state.progress.done} were counted. Clear the plan task to start over."
            )
        if self.progress.total <= _KEPT_OUTCOMES:
            self._kept[number] = content
        return content


def read_committed(
    folder: RunFolder,
    manifest: Manifest,
    at_least: Mapping[int, int] | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Committed:
    """
    Return the state of all shards of a run.

    :param at_least: shard number to the number of a record that its log has; what is missing is waited for.
    :param sleep: waits for some seconds.
    :raises RunFolderError: if such a record cannot be seen for LAG_S.
    """
    positions = at_least or {}
    shards = sorted(manifest.shards, key=lambda shard: shard.first)
    states = {state.shard.number: state for state in folder.read_shards([(shard, None) for shard in shards])}

    def lagging() -> list[ShardState]:
        return [state for number, state in states.items() if state.number < positions.get(number, -1)]

    def is_seen() -> bool:
        again = folder.read_shards([(state.shard, state) for state in lagging()])
        states.update((state.shard.number, state) for state in again)
        return not lagging()

    if not wait_for(is_seen, sleep):
        raise _lags(folder, lagging(), positions)
    return Committed(folder=folder, states=tuple(states.values()))


def _lags(folder: RunFolder, lagging: Sequence[ShardState], positions: Mapping[int, int]) -> RunFolderError:
    first = lagging[0]
    others = f" and {len(lagging) - 1} more" if len(lagging) > 1 else ""
    return RunFolderError(
        f"the storage of {folder.path} lags behind: shard {first.shard.number}{others} has written record "
        f"{positions[first.shard.number]} of its log, and after {LAG_S:g} seconds this machine sees "
        f"{'no record' if first.number < 0 else f'only record {first.number}'}. Mount the storage so that all machines "
        "see new files soon (NFS: with the option noac, or with lookupcache=none and a low actimeo), and clear this "
        "task."
    )


def read_published(folder: RunFolder) -> Committed:
    """
    Return the state of all shards of a run as its newest result has it, whatever was cleared since.

    :raises RunFolderError: if nothing was published.
    """
    published = folder.open_task_log().read().newest_published(folder.path.name)
    if published is None:
        raise RunFolderError(f"{folder.path} has published no result.")
    shards = sorted(folder.read_manifest().shards, key=lambda shard: shard.first)
    states = [read_shard_at(folder.store, shard, published.positions[shard.number]) for shard in shards]
    return Committed(folder=folder, states=tuple(states))


def read_result(
    folder: RunFolder,
    settings: RunSettings,
    manifest: Manifest | None = None,
    at_least: Mapping[int, int] | None = None,
) -> Committed:
    """
    Return the state of the shards with the result of a run: its own, or those of the run that it reuses.

    :param manifest: the manifest of the folder; None: it is read.
    :param at_least: see read_committed.
    :raises RunFolderError: if the reused run cannot be read.
    """
    if settings.reused_from is None:
        return read_committed(folder, manifest or folder.read_manifest(), at_least)
    try:
        return read_published(find_source(folder, settings))
    except (PrsError, OSError, ValueError) as error:
        raise unusable(settings.reused_from, str(error)) from None


def unusable(reused_from: str, reason: str) -> RunFolderError:
    """
    Return the error for an earlier run whose rows cannot be the result.

    :param reused_from: the earlier run's folder.
    :param reason: what is wrong with it.
    """
    return RunFolderError(
        f"the result of {reused_from} was to be reused, and cannot be: {reason}\nTo do the work again, remove that "
        "folder and clear the plan task, or run with allow_reuse=False."
    )


def find_source(folder: RunFolder, settings: RunSettings) -> RunFolder:
    """
    Return the folder of the run that did the work: its own, or that of an earlier run, which may reuse another one.

    :raises RunFolderError: if the reused run cannot be read.
    """
    followed = {folder.path}
    while settings.reused_from is not None:
        folder = RunFolder(settings.reused_from)
        if folder.path in followed:
            raise RunFolderError(f"{folder.path} reuses itself.")
        followed.add(folder.path)
        settings = folder.read_settings()
    return folder
