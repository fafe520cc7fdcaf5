"""One look at a run, for the gatekeeper, its trigger and the nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_prs.records import Limits, Manifest, Progress
from airflow_prs.run_folder.attempt_records import StoredVerdict
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.thresholds.judging import Judgement, judge_states


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
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
    An attempt that may abort a run: of the gatekeeper, or of a node.

    :param author: name of the gatekeeper or the shard.
    :param attempt: name of its attempt.
    :param set_aside: verdicts that do not bind it.
    """

    folder: RunFolder
    manifest: Manifest
    limits: Limits
    author: str
    attempt: str
    set_aside: frozenset[str]

    def standing(self) -> StoredVerdict | None:
        """Return the oldest verdict that binds this attempt."""
        return self.folder.standing_verdict(self.manifest, self.set_aside)

    def look(self, *, is_final: bool = False) -> Look:
        """
        Judge the run by what is stored now, and write the verdict if this is the first to see a threshold exceeded.

        :param is_final: whether no shard can run any more; see judge_states.
        """
        judgement = self.judge(map(self.folder.read_shard, self.manifest.shards), is_final=is_final)
        standing = self.standing()
        if standing is None and judgement.is_abort:
            standing = self.folder.write_verdict(
                judgement.verdict,
                author=self.author,
                attempt=self.attempt,
                counted=judgement.counted,
                counted_loans=judgement.counted_loans,
                set_aside=self.set_aside,
            )
        return Look(verdict=standing, progress=judgement.progress)

    def judge(self, states: Iterable[ShardState], *, is_final: bool = False) -> Judgement:
        """Judge a run as far as it concerns this attempt; see judge_states."""
        return judge_states(states, self.limits, set_aside=self.set_aside, is_final=is_final)


def open_watch(folder: RunFolder, *, attempt: str, set_aside: Iterable[str]) -> Watch:
    """
    Return the watch of an attempt of the gatekeeper.

    :param set_aside: verdicts that do not bind it.
    :raises RunFolderError: if the run folder cannot be read here.
    """
    limits = folder.read_settings().config.limits
    return Watch(
        folder=folder,
        manifest=folder.read_manifest(),
        limits=limits,
        author="gatekeeper",
        attempt=attempt,
        set_aside=frozenset(set_aside),
    )
