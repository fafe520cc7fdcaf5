"""What steering needs to know of a run, and why a run cannot be steered at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from airflow_prs.errors import SteeringError
from airflow_prs.records import Limits, Manifest
from airflow_prs.run_folder.committed import Committed, read_committed
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunLog
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.run_folder.task_log import Execution, History
from airflow_prs.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class SteerableRun:
    """
    A run that can be steered, read once, so that everything that is decided by it agrees.

    :param settings: its settings, with the newest limits.
    :param history: the task log.
    :param log: the run log.
    :param committed: the states of its shards.
    """

    folder: RunFolder
    settings: RunSettings
    history: History
    log: RunLog
    manifest: Manifest
    committed: Committed

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self.settings.config.limits

    @property
    def executions(self) -> list[int]:
        """The numbers of the executions of plan that have worked on this folder, oldest first."""
        name = self.folder.path.name
        return [number for number, x in enumerate(self.history) if isinstance(x, Execution) and x.folder == name]

    @property
    def is_published(self) -> bool:
        """Whether the result has been published, and no shard has gone on since."""
        published = self.history.newest_published(self.folder.path.name)
        return published is not None and dict(published.positions) == self.committed.positions

    @property
    def is_done(self) -> bool:
        """Whether every mini-batch has an outcome."""
        return self.committed.progress.done == self.committed.progress.total

    @cached_property
    def shards(self) -> list[ShardState]:
        """The states of all shards, those that only borrow mini-batches too."""
        node_count = self.settings.config.node_count
        return [*self.committed.states, *self.folder.read_borrowing_shards(self.manifest, node_count)]

    @property
    def epochs(self) -> list[Epoch]:
        """The epochs of all attempts."""
        return list(epochs_of(self.log, self.shards))


def epochs_of(log: RunLog, shards: list[ShardState]) -> Iterator[Epoch]:
    """Yield the epochs of the attempts of shards, and of the newest one of the gatekeeper."""
    yield from (state.epoch for state in shards if state.epoch is not None)
    if log.gatekeeper is not None:
        yield log.gatekeeper.epoch


def read_steerable(folder: RunFolder, log: RunLog | None = None) -> SteerableRun:
    """
    Return what steering needs to know of a run.

    :param log: its run log, as it has just been followed; None: it is read.
    :raises SteeringError: if it cannot be steered: it is not planned, is being removed, has been replaced by another
        folder, or reuses a result.
    """
    history = folder.open_task_log().read()
    if history.is_being_removed:
        raise SteeringError(f"the run in {folder.path.parent} is being removed.")
    newest = history.newest_execution()
    if newest is None or not folder.has_manifest:
        raise SteeringError(f"{folder.path} is not planned yet: plan is still running, or has failed.")
    if (other := history.execution(newest).folder) != folder.path.name:
        raise SteeringError(f"plan has started over since: the run folder is now {folder.path.with_name(other)}.")
    folder = RunFolder(folder.path)
    log = log or folder.read_run_log()
    settings = folder.under_newest_terms(folder.read_planned_settings(), history, log)
    if settings.reused_from is not None:
        raise SteeringError(f"no mini-batch runs here: the run uses the result of {settings.reused_from} again.")
    manifest = folder.read_manifest()
    return SteerableRun(
        folder=folder,
        settings=settings,
        history=history,
        log=log,
        manifest=manifest,
        committed=read_committed(folder, manifest),
    )
