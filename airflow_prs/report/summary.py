"""RunSummary: what came of a run, for later tasks, callbacks and asset events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:
    from airflow_prs.records import Progress

ReportStatus = Literal["completed", "aborted", "failed"]

_CONTEXT_KEY = "airflow_prs_summary"


class MiniBatchCounts(TypedDict):
    """How many mini-batches a run has, by what became of them."""

    total: int
    succeeded: int
    failed: int
    not_tried: int


class ItemCounts(TypedDict):
    """How many items a run has; those of mini-batches that were never tried are in neither of the other counts."""

    total: int
    succeeded: int
    failed: int


class ThresholdState(TypedDict):
    """
    A threshold: what it allows, and what was counted.

    ``limit`` is None if it is not checked.
    """

    limit: float | None
    count: float


class RunSummary(TypedDict):
    """
    What came of a run: the XCom ``summary`` of its merge, or of its gatekeeper if nothing is published.

    :ivar headline: one line, such as ``completed, 5 of 500 items failed``, or the cause of an abort.
    :ivar location: the result, which ``.output`` is, too; None: nothing is published.
    :ivar rows: number of elements that ``run()`` returned.
    :ivar seconds: how long mini-batches were worked on, without pauses.
    :ivar thresholds: by the name of the parameter.
    :ivar reused_from: the run folder whose result is reused; None: this run did the work.
    :ivar replaces: whose result was at the location before; None: there was none, or it was this run's.
    :ivar advice: what to clear to try failed mini-batches again; '': there are none.
    :ivar run_folder: the run folder, in which report.json has more details.
    """

    headline: str
    status: ReportStatus
    location: str | None
    rows: int
    seconds: float
    mini_batches: MiniBatchCounts
    items: ItemCounts
    thresholds: dict[str, ThresholdState]
    warnings: list[str]
    reused_from: str | None
    replaces: str | None
    advice: str
    run_folder: str


def summarize(report: Mapping[str, Any], *, reason: str = "", advice: str = "") -> RunSummary | None:
    """
    Return the summary of what report.json holds; None: the reports could not be written.

    :param reason: why a run was aborted.
    :param advice: what to clear to try failed mini-batches again.
    """
    if "items" not in report:
        return None
    items, mini_batches = report["items"], report["mini_batches"]
    if report["status"] == "completed":
        headline = _completed(items["failed"], items["total"])
    elif reason:
        headline = f"{report['status']}: {reason}"
    else:
        left, total = mini_batches["not_tried"], mini_batches["total"]
        headline = f"{report['status']}, {left:,} of {total:,} mini-batches were never tried to the end"
    return RunSummary(
        headline=headline,
        status=report["status"],
        location=report["result"],
        rows=report["rows"],
        seconds=report["seconds"],
        mini_batches=mini_batches,
        items=items,
        thresholds=report["thresholds"],
        warnings=report["warnings"],
        reused_from=report["reused_from"],
        replaces=report.get("replaces"),  # not in those of earlier versions
        advice=advice,
        run_folder=report["run"]["folder"],
    )


def headline_of(progress: Progress) -> str:
    """Return the headline of a run that is complete and whose thresholds hold."""
    return _completed(progress.items_failed, progress.items_total)


def _completed(failed: int, total: int) -> str:
    return f"completed, {failed:,} of {total:,} items failed"


def put_summary(context: Any, summary: Mapping[str, Any]) -> None:
    """Let callbacks find a summary in Airflow's context."""
    context[_CONTEXT_KEY] = summary


def summary_of(context: Any) -> RunSummary | None:
    """
    Return the summary of a run in a callback of one of its tasks, such as ``on_failure_callback``.

    :param context: Airflow's, which callbacks get.
    :return: None: the task has not ended the run; for example, a shard has failed and the others continue.
    """
    return cast("RunSummary | None", context.get(_CONTEXT_KEY))
