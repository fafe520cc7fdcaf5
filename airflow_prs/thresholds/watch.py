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
    The result of one look at a run.

    :param verdict: the verdict that aborts the run, if any.
    :param progress: the counts of the run.
    """

    verdict: StoredVerdict | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """
    What one try of the gatekeeper watches.

    :param folder: the run folder.
    :param settings: the settings that plan resolved.
    :param manifest: the manifest of the run.
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
        Judge the run; write the verdict if a threshold is exceeded and nobody has written one.

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
    Return what a try of the gatekeeper needs to watch a run.

    :raises RunFolderError: if the run folder cannot be read.
    """
    settings, manifest = folder.read_settings(), folder.read_manifest()
    return Watch(folder=folder, settings=settings, manifest=manifest, attempt=attempt, set_aside=set_aside)
