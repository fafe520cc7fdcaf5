"""What counts of a run, read once, so that judging, publishing and reporting use the same counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import PrsError, RunFolderError
from airflow_prs.records import FailedTry, Manifest, Progress
from airflow_prs.run_folder import ledger
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import AttemptNames, linked_names
from airflow_prs.run_folder.tries import TriesIndex
from airflow_prs.settings import RunSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.run_folder.ledger import ShardState


_KEPT_OUTCOMES = 1_000_000
"""Outcomes of up to this many mini-batches, about 90 MB, are kept in memory; larger runs read them for each use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """
    The states of a run's shards, read once.

    :param folder: run folder with the outcomes and rows: that of an earlier run if its result is reused.
    :param states: states of its shards, in the order of the input.
    """

    folder: RunFolder
    states: tuple[ShardState, ...]
    _kept: dict[int, npt.NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def progress(self) -> Progress:
        """The run's counts."""
        return sum((state.progress for state in self.states), Progress())

    def outcomes(self, state: ShardState) -> npt.NDArray[Any]:
        """
        Return a shard's outcomes; see ledger.read_outcomes.

        :raises RunFolderError: if they are damaged or missing, or their number differs from the shard's counts.
        """
        number = state.shard.number
        if number not in self._kept:
            outcomes = self._read_outcomes(state)
            if self.progress.total > _KEPT_OUTCOMES:
                return outcomes
            self._kept[number] = outcomes
        return self._kept[number]

    def attempts(self, state: ShardState) -> list[AttemptNames]:
        """Return the paths of a shard's attempts and loans; ``attempt`` of an outcome is a position in this list."""
        return [linked_names(self._shard_folder(state), link) for link in state.chain]

    def nodes(self, state: ShardState) -> list[str]:
        """Return the name of the node of each attempt and loan of a shard."""
        claims = map(ledger.read_claim, self.attempts(state))
        return ["" if claim is None else claim.node for claim in claims]

    def failed_tries(self, state: ShardState) -> Iterator[FailedTry]:
        """Yield a shard's failed tries in the order in which they were committed."""
        return ledger.read_failed_tries(state, self._shard_folder(state))

    def index_failed_tries(self, state: ShardState) -> TriesIndex:
        """Return an index of a shard's failed tries by mini-batch."""
        return TriesIndex(state, self._shard_folder(state))

    def _read_outcomes(self, state: ShardState) -> npt.NDArray[Any]:
        try:
            outcomes = ledger.read_outcomes(state, self._shard_folder(state))
        except OSError as error:
            raise RunFolderError(
                f"the outcomes of shard {state.shard.number} cannot be read: {error}. "
                "Clear the plan task to start over."
            ) from None
        if len(outcomes) != state.progress.done:
            raise RunFolderError(
                f"{self._shard_folder(state)} is damaged: it holds {len(outcomes)} outcomes, "
                f"{state.progress.done} were counted. Clear the plan task to start over."
            )
        return outcomes

    def _shard_folder(self, state: ShardState) -> Path:
        return self.folder.names.shard(state.shard)


def read_committed(folder: RunFolder, manifest: Manifest) -> Committed:
    """Return the state of all shards of a run."""
    shards = sorted(manifest.shards, key=lambda shard: shard.first)
    return Committed(folder=folder, states=tuple(map(folder.read_shard, shards)))


def read_result(folder: RunFolder, settings: RunSettings, manifest: Manifest | None = None) -> Committed:
    """
    Return the state of the shards with the result of a run: its own, or those of the run that it reuses.

    :param manifest: the manifest of the folder; None: it is read.
    :raises RunFolderError: if the reused run cannot be read.
    """
    if settings.reused_from is None:
        return read_committed(folder, manifest or folder.read_manifest())
    try:
        source = _find_source(folder, settings)
        return read_committed(source, source.read_manifest())
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


def _find_source(folder: RunFolder, settings: RunSettings) -> RunFolder:
    """Return the folder of the run that did the work; a reused run may itself reuse another one."""
    followed = {folder.path}
    while settings.reused_from is not None:
        folder = RunFolder(settings.reused_from)
        if folder.path in followed:
            raise RunFolderError(f"{folder.path} reuses itself.")
        followed.add(folder.path)
        settings = folder.read_settings()
    return folder
