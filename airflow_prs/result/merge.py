"""Merge: what was committed, judged once more and published in the order of the input."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.errors import PrsError, RunFolderError, SupersededError
from airflow_prs.records import Manifest, Ruling, Verdict
from airflow_prs.report.reports import describe_report, write_reports
from airflow_prs.result.concluding import conclude_aborted, conclude_incomplete
from airflow_prs.result.publication import publish_rows
from airflow_prs.run_folder.committed import Committed, read_result, unusable
from airflow_prs.run_folder.folder import RunFolder, sibling_plans
from airflow_prs.settings import RunSettings
from airflow_prs.thresholds.limits import judge

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """
    The result of a run and its report.

    :param location: path of the result: the file of all rows, or the folder that the script wrote to.
    :param report: what report.json holds.
    """

    location: str
    report: dict[str, Any]


def merge_run(folder: RunFolder, settings: RunSettings | None = None, manifest: Manifest | None = None) -> MergeResult:
    """
    Publish the result of a run atomically, and write its reports.

    Verdicts and task states do not count here: a run is published if every mini-batch has an outcome, and no threshold
    is exceeded.

    :param settings: those of the folder; None: they are read.
    :param manifest: that of the folder; None: it is read.
    :raises SupersededError: if plan has run again since.
    :raises RunAbortedError: if a threshold is exceeded.
    :raises IncompleteRunError: if mini-batches have no outcome.
    :raises RunFolderError: if the run folder, or that of the run whose result is reused, is damaged or gone.
    :raises PublicationError: if the result cannot be put in its place.
    """
    _refuse_superseded(folder)
    settings = settings or folder.read_settings()
    committed = read_result(folder, settings, manifest)
    verdict = judge(committed.progress, settings.config.limits)
    if verdict.ruling is not Ruling.COMPLETE:
        raise _refusal(settings, committed, verdict)
    location = _publish(folder, settings, committed)
    report = write_reports(folder, settings, status="completed", result=location, committed=committed)
    logger.info("%s", describe_report(report))
    return MergeResult(location=location, report=report)


def _publish(folder: RunFolder, settings: RunSettings, committed: Committed) -> str:
    output = settings.output
    if settings.config.output_action == "summary_only" or output is None:
        _refuse_superseded(folder)
        return output or str(committed.folder.names.script_output)
    target = Path(output, settings.config.result_file_name)
    try:
        publish_rows(
            target,
            committed,
            identity=settings.identity,
            result_format=settings.config.result_format,
            confirm=lambda: _refuse_superseded(folder),
        )
    except RunFolderError as error:
        if settings.reused_from is None:
            raise
        raise unusable(settings.reused_from, str(error)) from None
    return str(target)


def _refusal(settings: RunSettings, committed: Committed, verdict: Verdict) -> PrsError:
    if settings.reused_from is not None:
        return unusable(settings.reused_from, f"it is no longer complete: {verdict.reason}.")
    if verdict.ruling is Ruling.ABORT:
        return conclude_aborted(settings, committed, verdict)
    return conclude_incomplete(settings, committed)


def _refuse_superseded(folder: RunFolder) -> None:
    """Raise if a newer plan of the same run has written its manifest; a plan without one may still fail."""
    for sibling in sibling_plans(folder):
        if sibling.path.name > folder.path.name and sibling.names.manifest.exists():
            raise SupersededError(
                f"plan has run again since: {sibling.path} is newer than {folder.path}, so nothing is published "
                "from the older one. The tasks after the newer plan publish their own result."
            )
