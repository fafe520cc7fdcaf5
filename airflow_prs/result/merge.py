"""Merge: what was committed, judged once more and published in the order of the input."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.errors import DamagedError, PrsError, RunFolderError
from airflow_prs.records import Manifest, Ruling, Verdict
from airflow_prs.report.reports import describe_report, fresh_tries_advice, place_reports, write_reports
from airflow_prs.result.concluding import conclude_aborted, conclude_incomplete
from airflow_prs.result.publication import naming, remove_leftovers, write_result
from airflow_prs.result.replacing import find_replaced, note_owner
from airflow_prs.run_folder.committed import Committed, read_published, read_result, unusable
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.merges import Merge
from airflow_prs.run_folder.names import REPORT, reports_prefix
from airflow_prs.run_folder.task_log import RowsDeleted
from airflow_prs.settings import RunSettings
from airflow_prs.store.opening import Location, location_of, open_store
from airflow_prs.thresholds.limits import judge
from airflow_prs.wording import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """
    The result of a run and its report.

    :param location: path of the result: the file of all rows, or the folder that the script wrote to.
    :param report: what report.json holds.
    :param advice: what to clear so that failed mini-batches get fresh tries; '': there are none.
    """

    location: str
    report: dict[str, Any]
    advice: str = ""


def merge_run(
    folder: RunFolder,
    *,
    try_number: int | None = None,
    manifest: Manifest | None = None,
    at_least: Mapping[int, int] | None = None,
) -> MergeResult:
    """
    Publish the result of a run atomically, and write its reports.

    Aborts and task states do not count here: a run is published if every mini-batch has an outcome, and no threshold
    is exceeded.

    :param try_number: number of this try of merge; None: nobody counts them.
    :param manifest: that of the folder; None: it is read.
    :param at_least: shard number to the number of a record that its log has; what is missing is waited for.
    :raises SupersededError: if a later try has begun, or plan has run again and begun another folder.
    :raises RunAbortedError: if a threshold is exceeded.
    :raises IncompleteRunError: if mini-batches have no outcome.
    :raises RunFolderError: if the run folder, or that of the run whose result is reused, is damaged or gone.
    :raises PublicationError: if the result cannot be put in its place.
    """
    settings = folder.read_settings()
    target = _target(settings)
    task_log = folder.open_task_log()
    merge = Merge(
        task_log,
        open_store(folder.path if target is None else target.parent),
        folder=folder.path.name,
        execution=folder.execution,
        try_number=try_number,
        key=None if target is None else target.name,
    )
    with naming(target or folder.path):
        replaced = None if target is None else find_replaced(target, settings.identity)
        try:
            result = merge.run(lambda: _publish(folder, merge, manifest, at_least, replaced))
        except DamagedError as error:
            task_log.abandon(folder.path.name, str(error).partition("\n")[0])
            raise
        if target is not None:
            note_owner(target, settings.identity)
        if isinstance(target, Path):
            remove_leftovers(target)
    logger.info("%s", describe_report(result.report))
    if task_log.history.rows_deleted(folder.path.name) is not None:
        _remove_rows(folder)
    return result


def _publish(
    folder: RunFolder,
    merge: Merge,
    manifest: Manifest | None,
    at_least: Mapping[int, int] | None,
    replaced: str | None,
) -> MergeResult:
    # The terms are those of the newest execution, which may have continued the folder since.
    settings = RunFolder(folder.path).read_settings()
    committed = read_result(folder, settings, manifest, at_least)
    verdict = judge(committed.progress, settings.config.limits)
    if verdict.ruling is not Ruling.COMPLETE:
        merge.check()
        raise _refusal(settings, committed, verdict)
    is_reused = settings.reused_from is not None
    deleted = committed.folder.open_task_log().read().rows_deleted(committed.folder.path.name)
    if deleted is not None and is_reused:
        raise unusable(str(settings.reused_from), "its rows were deleted after its result was published.")
    if deleted is not None:
        return _publish_no_more(committed, merge, deleted)
    positions = committed.positions
    try:
        merge.publish(
            lambda out: write_result(out, committed, settings.config.result_format),
            positions=positions,
            # A result is reused as it was published, whatever became of that run since.
            probe=lambda: positions if is_reused else committed.read_positions(),
        )
    except RunFolderError as error:
        if not is_reused:
            raise
        raise unusable(str(settings.reused_from), str(error)) from None
    location = str(_target(settings) or settings.output or committed.folder.names.script_output)
    prefix = reports_prefix(merge.number)
    report = write_reports(
        folder, settings, status="completed", result=location, replaces=replaced, committed=committed, prefix=prefix
    )
    merge.note_published(
        positions=positions,
        result=location,
        status=report["status"],
        reports=prefix.rstrip("/"),
    )
    # Nobody reuses a result without report.json.
    deletes_rows = not (settings.config.keep_rows or is_reused or _target(settings) is None)
    if deletes_rows and not merge.note_rows_deleted():
        deletes_rows = False
        logger.warning("The rows stay in %s, in spite of keep_rows=False: plan has begun again.", folder.path)
    place_reports(folder, prefix)
    advice = "" if is_reused or deletes_rows else fresh_tries_advice(committed.states)
    return MergeResult(location=location, report=report, advice=advice)


def _publish_no_more(committed: Committed, merge: Merge, deleted: RowsDeleted) -> MergeResult:
    """
    Return the result that was published before its rows were deleted.

    :raises RunFolderError: if it is not the result any more, or not in its place.
    """
    folder, before = committed.folder, read_published(committed.folder)
    published = folder.open_task_log().read().newest_published(folder.path.name)
    report = None if published is None else folder.read_report(f"{published.reports}/{REPORT}")
    if published is None or report is None:
        raise RunFolderError(f"{folder.path} has no report of its result. Clear the plan task to start over.")
    # An outcome never changes, except that a failure is tried again.
    added = committed.progress.succeeded - before.progress.succeeded
    if added:
        raise RunFolderError(
            f"{counted(added, 'mini-batch has', 'mini-batches have')} succeeded since {published.result} was "
            "published. The rows of the others were deleted then (keep_rows=False), so the result stays as it is. "
            "Clear the plan task to start over."
        )
    if not merge.is_in_place(deleted):
        raise RunFolderError(
            f"{published.result} is gone, or something else has replaced it since it was published, and its rows were "
            "deleted then (keep_rows=False). Clear the plan task to start over."
        )
    logger.info("The result was published before, and its rows were deleted then (keep_rows=False).")
    merge.note_published(
        positions=committed.positions, result=published.result, status=published.status, reports=published.reports
    )
    place_reports(folder, f"{published.reports}/")
    return MergeResult(location=published.result, report=report)


def _remove_rows(folder: RunFolder) -> None:
    try:
        folder.remove_rows()
    except OSError as error:
        logger.warning("Not all rows could be deleted: %s. To try again, clear the merge task.", error)
    else:
        logger.info("The rows in %s were deleted (keep_rows=False).", folder.path)


def _target(settings: RunSettings) -> Location | None:
    """Return the location of the file with all rows; None: there is none."""
    if settings.config.output_action == "summary_only" or settings.output is None:
        return None
    return location_of(settings.output) / settings.config.result_file_name


def _refusal(settings: RunSettings, committed: Committed, verdict: Verdict) -> PrsError:
    if settings.reused_from is not None:
        return unusable(settings.reused_from, f"it is no longer complete: {verdict.reason}.")
    if verdict.ruling is Ruling.ABORT:
        return conclude_aborted(settings, committed, verdict)
    return conclude_incomplete(settings, committed)
