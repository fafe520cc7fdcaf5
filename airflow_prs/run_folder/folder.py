"""RunFolder: the interface to the files of one execution of plan."""

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

    :param path: its path; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.names = Names(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # What plan writes

    def write_settings(self, settings: RunSettings) -> None:
        """Write the settings that plan has resolved."""
        files.make_folder(self.path)
        files.write_atomically(self.names.settings, settings.to_json())

    def read_settings(self) -> RunSettings:
        """
        Return the settings that plan has resolved.

        :raises RunFolderError: if this machine does not see the run folder, or it has the layout of another version.
        """
        try:
            return RunSettings.from_json(self.names.settings.read_bytes())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.names.settings} cannot be seen from this machine. Run folders must lie on storage that all "
                "nodes share: mount it at the same path everywhere, or let all tasks of the group run on one machine."
            ) from None

    def write_manifest(self, mini_batches: Iterable[MiniBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest, the last file that plan writes."""
        return self.write_batches(batches_of(mini_batches), shards)

    def write_batches(self, batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Manifest:
        """Write the manifest from record batches of mini-batches; see inputs.mini_batches."""
        files.make_folder(self.path)
        return manifests.write_manifest(self.names.manifest, batches, shards)

    def read_manifest(self) -> Manifest:
        """Return the totals and the shards; it reads only the footer."""
        return manifests.read_manifest(self.names.manifest)

    def read_mini_batches(self, first: int, end: int) -> Iterator[MiniBatch]:
        """Yield mini-batches in index order, in bounded memory."""
        return manifests.read_mini_batches(self.names.manifest, first, end)

    def select_mini_batches(self, indices: Sequence[int]) -> Iterator[MiniBatch]:
        """Yield the mini-batches with some indices, which are in ascending order, in bounded memory."""
        return manifests.select_mini_batches(self.names.manifest, indices)

    def read_item_counts(self, first: int, end: int) -> list[int]:
        """Return the numbers of items of some consecutive mini-batches."""
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
        """Claim a shard and return the attempt; see attempts.open_attempt."""
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
        """Return a shard's state: two small reads for a shard of any size, and one more for each open loan."""
        return ledger.read_shard(shard, self.names.shard(shard))

    def read_outcomes(self, shard: Shard) -> npt.NDArray[Any]:
        """Return the outcomes that count, at most one per mini-batch, sorted by index; see ledger.read_outcomes."""
        return ledger.read_outcomes(self.read_shard(shard), self.names.shard(shard))

    def read_failed_tries(self, shard: Shard) -> Iterator[FailedTry]:
        """Yield the failed tries that count."""
        return ledger.read_failed_tries(self.read_shard(shard), self.names.shard(shard))

    def attempts(self, shard: Shard) -> list[AttemptNames]:
        """Return the attempts and loans that count, oldest first; ``attempt`` of an outcome is a position in it."""
        return [linked_names(self.names.shard(shard), link) for link in self.read_shard(shard).chain]

    def claims(self, shard: Shard) -> list[Claim]:
        """Return the claims of the attempts and loans that count, oldest first."""
        found = [ledger.read_claim(names) for names in self.attempts(shard)]
        return [claim for claim in found if claim is not None]

    def read_layout(self) -> bytes | None:
        """Return the newest revision of the layout that all rows share; None: there is none."""
        revisions = self.names.layout.glob("[0-9]*")
        newest = max(revisions, default=None, key=lambda path: int(path.name))
        return None if newest is None else newest.read_bytes()

    # What the gatekeeper and nodes decide

    def open_gatekeeper(self, *, try_number: int, task_instance_id: str, max_tries: int) -> verdicts.GatekeeperClaim:
        """Return the claim of a try of the gatekeeper; see verdicts.open_gatekeeper."""
        return verdicts.open_gatekeeper(
            self.names.gatekeeper,
            self.names.verdicts,
            try_number=try_number,
            task_instance_id=task_instance_id,
            max_tries=max_tries,
        )

    def note_without_trigger(self, attempt: str) -> None:
        """Note that an attempt of the gatekeeper waits without a trigger from now on."""
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
        """Write a verdict and return the one that stands: the first of this author and attempt."""
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
        Return the oldest verdict that applies to an attempt; None: there is none.

        A verdict that counted a commit which no longer counts does not apply.

        :param set_aside: verdicts that the attempt has set aside.
        """
        for stored in verdicts.read_verdicts(self.names.verdicts, set_aside):
            states = {s.number: self.read_shard(s) for s in manifest.shards if s.number in stored.counted}
            if not verdicts.has_counted_void(stored, states):
                return stored
        return None


def run_folder_of(output: str, identity: RunIdentity) -> RunFolder:
    """Return the run folder of one execution of plan: ``<output>/_parallel_run/<dag>/<run>/<task>/<plan>``."""
    return RunFolder(run_path(output, identity))


def sibling_plans(folder: RunFolder) -> list[RunFolder]:
    """Return the run folders of other plans of the same run and task, oldest first: task instance ids sort by time."""
    return [RunFolder(path) for path in sorted(folder.path.parent.iterdir()) if path != folder.path]


def earlier_runs(output: str, dag_id: str, task_id: str) -> list[RunFolder]:
    """Return the run folders of all runs of a task in an output, newest first."""
    found = Path(output).glob(task_pattern(dag_id, task_id))
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def all_plans(output: str | os.PathLike[str]) -> list[RunFolder]:
    """Return the run folders of all runs of all tasks in an output, in the order in which they were planned."""
    found = [RunFolder(path) for path in Path(output).glob(all_pattern())]
    planned = [folder for folder in found if folder.names.settings.is_file()]
    return sorted(planned, key=lambda folder: folder.names.settings.stat().st_mtime_ns)
