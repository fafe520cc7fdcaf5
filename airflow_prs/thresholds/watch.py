"""One look at a run, for a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_prs.records import Manifest, Progress, StoredVerdict
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.settings import RunSettings
from airflow_prs.thresholds.judging import judge_run, uphold


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """
    What one look at a run shows.

    :param verdict: what aborts the run; None: nothing does.
    :param progress: how far it is.
    """

    verdict: StoredVerdict | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """
    One try of the gatekeeper, watching a run.

    :param folder: the run folder.
    :param settings: what plan resolved.
    :param manifest: the shards.
    :param attempt: the gatekeeper's attempt.
    :param set_aside: verdicts that do not bind it.
    """

    folder: RunFolder
    settings: RunSettings
    manifest: Manifest
    attempt: str
    set_aside: frozenset[str]

    def look(self, *, is_final: bool) -> Sight:
        """
        Judge the run, and write the verdict if it is the first to see a threshold passed.

        :param is_final: whether no shard can run any more.
        """
        limits = self.settings.config.limits
        judgement = judge_run(self.folder, self.manifest, limits, set_aside=self.set_aside, is_final=is_final)
        standing = self.folder.standing_verdict(self.manifest, self.set_aside)
        if standing is None and judgement.is_abort:
            standing = uphold(self.folder, judgement, author="gatekeeper", attempt=self.attempt)
        return Sight(verdict=standing, progress=judgement.progress)


def open_watch(folder: RunFolder, *, attempt: str, set_aside: frozenset[str]) -> Watch:
    """
    Begin to watch a run.

    :raises RunFolderError: if the run folder cannot be read here.
    """
    settings, manifest = folder.read_settings(), folder.read_manifest()
    return Watch(folder=folder, settings=settings, manifest=manifest, attempt=attempt, set_aside=set_aside)
