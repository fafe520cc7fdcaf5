"""RunFolder: one execution of plan and all that came of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import RunFolderError
from airflow_prs.inputs.mini_batches import batches_of
from airflow_prs.records import FailedTry, Manifest, MiniBatch, RunIdentity, Shard, Verdict
from airflow_prs.run_folder import attempts, ledger, loans, verdicts
from airflow_prs.run_folder import manifest as manifests
from airflow_prs.run_folder.attempt_records import Claim, Link, StoredVerdict
from airflow_prs.run_folder.names import AttemptNames, Names, all_pattern, linked_names, run_path, task_pattern
from airflow_prs.settings import RunSettings
from airflow_prs.store import files

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa


class RunFolder:
    """
    The run folder of one execution of plan.

    :param path: where it is; need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.names = Names(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # What plan writes

    def write_settings(self, settings: RunSettings) -> None:
        """Write what plan resolved."""
        files.make_folder(self.path)
        files.write_whole(self.names.settings, settings.to_json())

    def read_settings(self) -> RunSettings:
        """
        Read what plan resolved.

        :raises RunFolderError: if the run folder cannot be seen here, or was written by a newer version.
        """
        try:
            return RunSettings.from_json(self.names.settings.read_bytes())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.names.settings} cannot be seen from this machine. Run folders must lie on storage that all "
                "nodes share: mount it at the same path everywhere, or let all tasks of the group run on one machine."
            ) from None

    def write_manifest(self, mini_batches: Iterable[MiniBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest, the last file of a plan."""
        return self.write_batches(batches_of(mini_batches), shards)

    def write_batches(self, batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest from mini-batches in columns; see columns.batch_of."""
        files.make_folder(self.path)
        return manifests.write_manifest(self.names.manifest, batches, shards)

    def read_manifest(self) -> Manifest:
        """Read the totals and the shards: one footer."""
        return manifests.read_manifest(self.names.manifest)

    def read_mini_batches(self, first: int, end: int) -> Iterator[MiniBatch]:
        """Read mini-batches in index order, in bounded memory."""
        return manifests.read_mini_batches(self.names.manifest, first, end)

    def select_mini_batches(self, indices: Sequence[int]) -> Iterator[MiniBatch]:
        """Read some mini-batches, named in ascending order, in bounded memory."""
        return manifests.select_mini_batches(self.names.manifest, indices)

    def read_item_counts(self, first: int, end: int) -> list[int]:
        """Read how many items each of some consecutive mini-batches has."""
        return manifests.read_item_counts(self.names.manifest, first, end)

    # What nodes write

    def open_attempt(
        self,
        shard: Shard,
        *,
        try_number: int,
        task_instance_id: str,
        max_tries: int,
        node: str,
        window: int,
        again: int = 0,
    ) -> attempts.Attempt:
        """Claim a shard; see attempts.open_attempt."""
        return attempts.open_attempt(
            shard,
            self.names.shard(shard),
            try_number=try_number,
            task_instance_id=task_instance_id,
            max_tries=max_tries,
            node=node,
            window=window,
            again=again,
            verdicts=verdicts.read_verdicts(self.names.verdicts, ()),
        )

    def ask_for_loan(self, state: ledger.ShardState, borrower: attempts.Attempt) -> loans.Request:
        """Ask the newest attempt at a shard for mini-batches; see loans.Request."""
        return loans.Request(self.names.shard(state.shard), state, borrower)

    def read_shard(self, shard: Shard) -> ledger.ShardState:
        """Read a shard's counts: two small reads whatever its size, and one more for each loan that is open."""
        return ledger.read_shard(shard, self.names.shard(shard))

    def read_outcomes(self, shard: Shard) -> npt.NDArray[Any]:
        """Read the outcomes that count, one per mini-batch that has one, sorted by index; see ledger.read_outcomes."""
        return ledger.read_outcomes(self.read_shard(shard), self.names.shard(shard))

    def read_failed_tries(self, shard: Shard) -> Iterator[FailedTry]:
        """Read the failed tries that count."""
        return ledger.read_failed_tries(self.read_shard(shard), self.names.shard(shard))

    def attempts(self, shard: Shard) -> list[AttemptNames]:
        """List the attempts and loans that count, oldest first; ``attempt`` of an outcome is a position in it."""
        return [linked_names(self.names.shard(shard), link) for link in self.read_shard(shard).chain]

    def claims(self, shard: Shard) -> list[Claim]:
        """Read the claims of the attempts and loans that count, oldest first."""
        found = [ledger.read_claim(names) for names in self.attempts(shard)]
        return [claim for claim in found if claim is not None]

    def read_layout(self) -> bytes | None:
        """Read what the rows of all mini-batches have in common, as it was refined last; None: nothing."""
        revisions = self.names.layout.glob("[0-9]*")
        newest = max(revisions, default=None, key=lambda path: int(path.name))
        return None if newest is None else newest.read_bytes()

    # What was ruled

    def open_gatekeeper(self, *, try_number: int, task_instance_id: str, max_tries: int) -> verdicts.GatekeeperClaim:
        """Claim for a try of the gatekeeper; see verdicts.open_gatekeeper."""
        return verdicts.open_gatekeeper(
            self.names.gatekeeper,
            self.names.verdicts,
            try_number=try_number,
            task_instance_id=task_instance_id,
            max_tries=max_tries,
        )

    def note_without_trigger(self, attempt: str) -> None:
        """Remember that an attempt of the gatekeeper waits without a trigger from now on."""
        files.write_once(self.names.without_trigger(attempt), b"")

    def is_without_trigger(self, attempt: str) -> bool:
        """Whether an attempt of the gatekeeper waits without a trigger."""
        return self.names.without_trigger(attempt).exists()

    def write_verdict(
        self,
        verdict: Verdict,
        *,
        author: str,
        attempt: str,
        counted: Mapping[int, Link],
        counted_loans: Mapping[int, tuple[Link, ...]] | None = None,
        set_aside: Collection[str] = (),
    ) -> StoredVerdict:
        """Write a verdict; the first one of an author and attempt stands."""
        return verdicts.write_verdict(
            self.names.verdicts,
            verdict,
            author=author,
            attempt=attempt,
            counted=counted,
            counted_loans=counted_loans or {},
            set_aside=set_aside,
        )

    def standing_verdict(self, manifest: Manifest, set_aside: Collection[str]) -> StoredVerdict | None:
        """
        Find the oldest verdict that binds whoever has set aside the given ones.

        One that counted a commit which no longer counts binds nobody.
        """
        for stored in verdicts.read_verdicts(self.names.verdicts, set_aside):
            states = {s.number: self.read_shard(s) for s in manifest.shards if s.number in stored.counted}
            if not verdicts.has_counted_void(stored, states):
                return stored
        return None


def run_folder_of(output: str, identity: RunIdentity) -> RunFolder:
    """Name the run folder of one execution of plan: ``<output>/_parallel_run/<dag>/<run>/<task>/<plan>``."""
    return RunFolder(run_path(output, identity))


def sibling_plans(folder: RunFolder) -> list[RunFolder]:
    """List the other plan folders of the same run and task, oldest first: task instance ids are in order of time."""
    return [RunFolder(path) for path in sorted(folder.path.parent.iterdir()) if path != folder.path]


def earlier_runs(output: str, dag_id: str, task_id: str) -> list[RunFolder]:
    """List the run folders of all runs of a task under an output, newest first."""
    found = Path(output).glob(task_pattern(dag_id, task_id))
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def all_plans(output: str | os.PathLike[str]) -> list[RunFolder]:
    """List the run folders of all runs of all tasks under an output, in the order in which they were planned."""
    found = [RunFolder(path) for path in Path(output).glob(all_pattern())]
    planned = [folder for folder in found if folder.names.settings.is_file()]
    return sorted(planned, key=lambda folder: folder.names.settings.stat().st_mtime_ns)
