"""The end of a run that is not published: its reports, and the error that its task raises."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_prs.errors import IncompleteRunError, PrsError, RunAbortedError
from airflow_prs.records import Verdict
from airflow_prs.report.reports import (
    aborted_error,
    first_failures,
    fresh_tries_advice,
    incomplete_message,
    write_reports,
)
from airflow_prs.report.summary import ReportStatus, summarize
from airflow_prs.run_folder.committed import Committed
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.settings import RunSettings

_NOTHING_MISSING = (
    "Every mini-batch has an outcome, but a shard has failed as a task. Clear it with its downstream tasks: with "
    "nothing left to do, it ends immediately."
)


def conclude_aborted(settings: RunSettings, committed: Committed, verdict: Verdict) -> RunAbortedError:
    """Write the reports of an aborted run, and return the error to raise."""
    report = write_reports(committed.folder, settings, status="aborted", committed=committed)
    error = aborted_error(verdict, committed)
    error.summary = summarize(report, reason=verdict.reason, advice=fresh_tries_advice(committed.states))
    return error


def conclude_incomplete(settings: RunSettings, committed: Committed, reasons: Iterable[str] = ()) -> IncompleteRunError:
    """
    Write the reports of a run whose shards ended before the work was done, and return the error to raise.

    :param reasons: errors of shards that failed.
    """
    report = write_reports(committed.folder, settings, status="failed", committed=committed)
    news = _NOTHING_MISSING
    if committed.progress.done < committed.progress.total:
        news = incomplete_message(committed, first_failures(committed))
    error = IncompleteRunError("\n\n".join([*reasons, news]))
    error.summary = summarize(report)
    return error


def conclude_failed(folder: RunFolder, error: PrsError) -> None:
    """Write the reports of a run that an error of a shard has ended."""
    status: ReportStatus = "aborted" if isinstance(error, RunAbortedError) else "failed"
    write_reports(folder, folder.read_settings(), status=status)
