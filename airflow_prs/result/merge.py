"""Merge: what was committed, judged once more and published in the order of the input."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.errors import IncompleteRunError, RunAbortedError, RunFolderError, SupersededError
from airflow_prs.records import Manifest, Ruling, StoredVerdict
from airflow_prs.report.reports import (
    abort_message,
    describe_report,
    first_failures_of,
    incomplete_message,
    write_reports,
)
from airflow_prs.result.publication import publish_rows
from airflow_prs.run_folder.committed import Committed, read_result, unusable
from airflow_prs.run_folder.folder import RunFolder, sibling_plans
from airflow_prs.settings import RunSettings
from airflow_prs.thresholds.judging import Judgement, judge_states

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """
    What came of a run.

    :param location: path of the result: the file of all rows, or the folder that the script wrote to.
    :param report: what report.json holds.
    """

    location: str
    report: dict[str, Any]


def merge_run(folder: RunFolder, settings: RunSettings | None = None, manifest: Manifest | None = None) -> MergeResult:
    """
    Publish the result of a run, whole or not at all, and report on it.

    No verdict and no task state is trusted: only a run whose every mini-batch has an outcome, and whose thresholds
    hold, is published.

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
    manifest = manifest or folder.read_manifest()
    committed = read_result(folder, settings, manifest)
    judgement = judge_states(list(committed.states), settings.config.limits, set_aside=frozenset(), is_final=True)
    if judgement.verdict.ruling is not Ruling.COMPLETE:
        _refuse(folder, settings, manifest, committed, judgement)
    location = _publish(folder, settings, committed)
    report = write_reports(folder, settings, manifest, status="completed", result=location, committed=committed)
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


def _refuse(
    folder: RunFolder, settings: RunSettings, manifest: Manifest, committed: Committed, judgement: Judgement
) -> None:
    if settings.reused_from is not None:
        raise unusable(settings.reused_from, f"it is no longer complete: {judgement.verdict.reason}.")
    failures = first_failures_of(committed)
    if judgement.is_abort:
        write_reports(folder, settings, manifest, status="aborted", result=None, committed=committed)
        verdict = StoredVerdict(
            name="merge", verdict=judgement.verdict, counted=judgement.counted, author="merge", at=time.time()
        )
        raise RunAbortedError(abort_message(verdict, failures, folder))
    write_reports(folder, settings, manifest, status="failed", result=None, committed=committed)
    raise IncompleteRunError(incomplete_message(committed, failures))


def _refuse_superseded(folder: RunFolder) -> None:
    """Refuse if a newer plan of the same run has come as far as its manifest; one still at work may come to nothing."""
    for sibling in sibling_plans(folder):
        if sibling.path.name > folder.path.name and sibling.names.manifest.exists():
            raise SupersededError(
                f"plan has run again since: {sibling.path} is newer than {folder.path}, so nothing is published "
                "from the older one. The tasks after the newer plan publish their own result."
            )
