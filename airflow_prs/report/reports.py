"""Write the reports of a run, and the texts of the errors that end one."""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import RunAbortedError, RunFolderError
from airflow_prs.records import SCHEMA, FailedTry, Limits, Progress, Verdict
from airflow_prs.report.failed_items import log_path, plain_try, write_failed_items
from airflow_prs.report.failed_rows import FailedRows, write_failed_rows
from airflow_prs.report.processed import write_processed
from airflow_prs.report.summaries import write_summaries
from airflow_prs.report.summary import ReportStatus
from airflow_prs.run_folder.committed import Committed, read_result
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import FAILED_ITEMS, FAILED_ROWS, NODE_SUMMARY, PROCESS_SUMMARY, PROCESSED, REPORT
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.settings import RunSettings
from airflow_prs.thresholds.limits import failed_mini_batches
from airflow_prs.wording import HOW_TO_GO_ON, command, counted

if TYPE_CHECKING:
    import numpy.typing as npt

logger = logging.getLogger(__name__)

_FAILURES_SHOWN = 3
_SHARDS_SHOWN = 5
_INDEXES_SHOWN = 20
_TRACEBACK_CHARACTERS = 4000
_PRECISE_BELOW = 10
"""Lower rates have a decimal."""
_PAUSE_S = 10.0
"""With more time than this between two mini-batches, nobody worked: the run was stopped and continued later."""


def write_reports(
    folder: RunFolder,
    settings: RunSettings,
    *,
    status: ReportStatus,
    result: str | None = None,
    replaces: str | None = None,
    committed: Committed | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """
    Write the CSV files, failed_items.jsonl, failed_rows.parquet and, last, report.json.

    Each replaces an earlier one atomically.

    If the reports of an aborted or failed run cannot be written, that is a warning: what ended the run matters more.

    :param status: how the run ended; failed: a shard failed for good.
    :param result: path of the result, None if nothing was published.
    :param replaces: whose result was there before; None: there was none, or it was this run's.
    :param committed: what is reported; None: what is committed now.
    :param prefix: of the keys of the reports in the run folder.
    :return: what report.json holds.
    :raises RunFolderError: if the reports of a completed run cannot be written.
    """
    try:
        committed = committed or read_result(folder, settings)
        report = {**_describe(folder, settings, committed, status, result), "replaces": replaces}
        report["warnings"] += _write_failed_rows(folder, settings, committed, prefix + FAILED_ROWS)
        write = folder.store.writer
        with write(prefix + PROCESSED) as out:
            write_processed(out, committed)
        with write(prefix + PROCESS_SUMMARY) as of_processes, write(prefix + NODE_SUMMARY) as of_nodes:
            write_summaries(of_processes, of_nodes, committed)
        with write(prefix + FAILED_ITEMS) as out:
            write_failed_items(out, committed)
        folder.store.put(prefix + REPORT, json.dumps(report, indent=2, ensure_ascii=False).encode())
    except (OSError, RunFolderError) as error:
        problem = f"the reports in {folder.path} cannot be written: {error}"
        if status == "completed":
            what_next = f"{HOW_TO_GO_ON} clear merge to try again."
            raise RunFolderError(f"{problem}. The result is at {result}.\n\n{what_next}") from error
        logger.warning("%s", problem)
        return {"schema": SCHEMA, "status": status, "warnings": [problem], "result": None}
    return report


def place_reports(folder: RunFolder, prefix: str) -> None:
    """
    Let reports have their names in the run folder too, report.json last; each replaces an earlier one.

    :param prefix: of the keys under which they were written.
    """
    if folder.store.stat(prefix + FAILED_ROWS) is None:
        folder.store.delete([FAILED_ROWS])
    else:
        folder.store.copy(prefix + FAILED_ROWS, FAILED_ROWS)
    for report in (PROCESSED, PROCESS_SUMMARY, NODE_SUMMARY, FAILED_ITEMS, REPORT):
        folder.store.copy(prefix + report, report)


def _write_failed_rows(folder: RunFolder, settings: RunSettings, committed: Committed, key: str) -> list[str]:
    """Write the rows of tables that failed, if there are any, and return warnings about those that are left out."""
    failed = FailedRows(committed, settings.inputs)
    rows = failed.read()
    if rows is None:
        folder.store.delete([key])
    else:
        with folder.store.writer(key) as out:
            write_failed_rows(out, rows)
    return failed.warnings


def first_failures(committed: Committed, count: int = 10) -> list[FailedTry]:
    """
    Return the first failures that were final, of entire mini-batches or of items; if there are none, of any tries.

    :param count: how many at most.
    """
    # Items may have failed although no mini-batch has: one that was split has only left them out.
    have_failed = [state for state in committed.states if state.progress.items_failed]
    final = _first(((one for one in committed.tries(state) if one.final) for state in have_failed), count)
    return final or _first(map(committed.tries, committed.states), count)


def _first(tries: Iterable[Iterable[FailedTry]], count: int) -> list[FailedTry]:
    """Return the first failed tries of some shards; those of each shard are in order of time."""
    firsts = (itertools.islice(of_shard, count) for of_shard in tries)
    return heapq.nsmallest(count, itertools.chain.from_iterable(firsts), key=lambda failed: failed.started)


def describe_report(report: dict[str, Any]) -> str:
    """Return a report as a paragraph."""
    mini_batches, items = report["mini_batches"], report["items"]
    rate = f", {_rate(report['rows'] / report['seconds'])} rows per second" if report["seconds"] > 0 else ""
    counts = (
        f"{report['status']}: {mini_batches['succeeded']:,} of {mini_batches['total']:,} mini-batches succeeded, "
        f"{mini_batches['failed']:,} failed; {items['succeeded']:,} of {items['total']:,} items succeeded, "
        f"{items['failed']:,} failed; {counted(report['rows'], 'row')} in {report['seconds']:,.1f} seconds{rate}."
    )
    parts = [counts]
    if left := mini_batches["not_tried"]:
        parts.append(f"{counted(left, 'mini-batch was', 'mini-batches were')} not tried to the end.")
    if report["reused_from"]:
        parts.append(f"Reused from {report['reused_from']}.")
    if report.get("replaces"):
        parts.append(f"The result replaces {report['replaces']}.")
    parts += [f"Warning: {warning}" for warning in report["warnings"]]
    if report["result"]:
        parts.append(f"Result: {report['result']}")
    return " ".join(parts)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= _PRECISE_BELOW else f"{rate:.2g}"


def aborted_error(verdict: Verdict, committed: Committed) -> RunAbortedError:
    """Return the error of an aborted run, which the gatekeeper and the shell raise."""
    return RunAbortedError(
        abort_message(verdict, first_failures(committed), committed.folder, fresh_tries_advice(committed.states))
    )


def abort_message(verdict: Verdict, failures: Sequence[FailedTry], folder: RunFolder, advice: str = "") -> str:
    """
    Return the error text of an aborted run: what was exceeded, the first failures, what to do next.

    :param failures: the first ones.
    :param advice: what else to do next; see fresh_tries_advice.
    """
    what_next = f"{HOW_TO_GO_ON}\n{_after_threshold(verdict, folder) if verdict.threshold else _after_order(folder)}"
    if advice:
        what_next += f"\n- {advice}"
    return "\n\n".join(
        [
            f"The run was aborted and nothing is published: {verdict.reason}.",
            *_describe_shortfall(verdict, failures, folder),
            *describe_failures(failures, folder),
            f"All failed items: {folder.names.failed_items}",
            what_next,
        ]
    )


def _after_threshold(verdict: Verdict, folder: RunFolder) -> str:
    option = verdict.threshold.replace("_", "-")
    return (
        f"- {_clear_plan(f'a higher {verdict.threshold}, other')}\n"
        "- If the cause is gone without a change (a service is back, a mount is there again): clear mini_batches with "
        "its downstream tasks. Failed mini-batches get fresh tries, the others do not run again.\n"
        f"- If you accept these failures: raise the limit with "
        f"`{command('runs', 'limits', f'--{option}', 'N', str(folder.path))}`, then continue with "
        f"`{command('runs', 'resume')}` and the same path."
    )


def _after_order(folder: RunFolder) -> str:
    """Return what to do next after a person has stopped the run."""
    return (
        "- To continue where the run stopped: clear mini_batches with its downstream tasks, or call "
        f"`{command('runs', 'resume', str(folder.path))}`. What has succeeded does not run again.\n"
        f"- {_clear_plan('other')}"
    )


def _clear_plan(terms: str) -> str:
    return (
        f"If you change something: clear plan. With {terms} tries, timeouts or numbers of processes the run continues "
        "(not with allow_reuse=False): failed mini-batches get fresh tries, the others do not run again. With another "
        "script, input or environment it starts over."
    )


def fresh_tries_advice(states: Iterable[ShardState]) -> str:
    """
    Return what to clear so that the failed mini-batches of shards that are done get fresh tries.

    :return: one or two sentences; "": there are none.
    """
    ended = [state for state in states if state.is_done and state.progress.failed]
    if not ended:
        return ""
    failed = sum(state.progress.failed for state in ended)
    numbers = [str(state.shard.number) for state in ended[:_INDEXES_SHOWN]]
    more = f" and {len(ended) - _INDEXES_SHOWN:,} more" if len(ended) > _INDEXES_SHOWN else ""
    return (
        f"{counted(failed, 'mini-batch', 'mini-batches')} failed in shards that are done (map indexes of "
        f"mini_batches: {', '.join(numbers)}{more}). For fresh tries, clear these tasks with their downstream "
        "tasks: clearing only failed tasks leaves out those in state success."
    )


def _describe_shortfall(verdict: Verdict, failures: Sequence[FailedTry], folder: RunFolder) -> Iterator[str]:
    """Yield an explanation of failed items if no mini-batch has failed: no traceback shows them."""
    if verdict.threshold == "error_threshold" and not any(failed.final for failed in failures):
        yield (
            "run() returned fewer elements than it received items; the difference counts as failed. Return an element "
            "for each item. If run() leaves items out on purpose, set error_threshold=-1. "
            f"{folder.names.processed.name} in the run folder has the counts of each mini-batch: {folder.path}"
        )


def incomplete_message(committed: Committed, failures: Sequence[FailedTry]) -> str:
    """
    Return the error text of a run that ended too early: how much is missing and where, what to do next.

    :param failures: the first ones.
    """
    progress = committed.progress
    failing = f", {progress.failing:,} of them after a failed try" if progress.failing else ""
    news = (
        f"{progress.total - progress.done:,} of {progress.total:,} mini-batches were never tried to the end{failing}, "
        "so nothing is published. Thresholds allow failures, but no missing work."
    )
    what_next = (
        f"{HOW_TO_GO_ON}\n"
        "- Read the logs of the mini_batches tasks of these shards: they say why the shards ended.\n"
        f"- {_clear_plan('other')}\n"
        "- Else remove the cause, and clear mini_batches with its downstream tasks: they continue where they stopped."
    )
    failed = describe_failures(failures, committed.folder)
    return "\n\n".join([news, "\n".join(_describe_unfinished(committed)), *failed, what_next])


def _describe_unfinished(committed: Committed) -> Iterator[str]:
    missing = [(state.shard, state.progress.total - state.progress.done) for state in committed.states]
    unfinished = [(shard, count) for shard, count in missing if count]
    for shard, count in unfinished[:_SHARDS_SHOWN]:
        yield f"- {shard.label}: {count:,} missing"
    if len(unfinished) > _SHARDS_SHOWN:
        yield f"- and {counted(len(unfinished) - _SHARDS_SHOWN, 'more shard')}"


def describe_failures(failures: Sequence[FailedTry], folder: RunFolder) -> Iterator[str]:
    """Yield a paragraph for each of the first failed tries: what failed, where, its log, its traceback."""
    for number, failed in enumerate(failures[:_FAILURES_SHOWN], start=1):
        where = ", ".join(filter(None, [failed.node, failed.process]))
        title = f"{number}. mini-batch {failed.index}, try {failed.try_number} on {where}: {failed.status.name}"
        lines = [f"{title}: {failed.error}", *(f"   item: {item}" for item in failed.items)]
        if failed.log:
            lines.append(f"   log: {log_path(failed, folder)}")
        if failed.traceback:
            lines.append(_shorten(failed.traceback.rstrip()))
        yield "\n".join(lines)


def _shorten(traceback: str) -> str:
    """Shorten a long traceback to its start and its end, where the error is."""
    if len(traceback) <= _TRACEBACK_CHARACTERS:
        return traceback
    half = _TRACEBACK_CHARACTERS // 2
    return f"{traceback[:half]}\n[...]\n{traceback[-half:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """
    What is known from the outcomes alone.

    :param seconds: how long mini-batches were worked on; pauses between attempts do not count.
    :param overfull: mini-batches that returned more elements than they had items.
    """

    seconds: float
    overfull: int


def _span(committed: Committed) -> _Span:
    import numpy as np

    stretches, overfull = [np.zeros((0, 2))], 0
    for state in committed.states:
        outcomes = committed.outcomes(state)
        overfull += int((outcomes["returned"] > outcomes["items"]).sum())
        # A mini-batch that died with its node has no moment.
        known = outcomes[outcomes["started"] > 0]
        stretches.append(_busy(np.stack([known["started"], known["started"] + known["duration_s"]], axis=1)))
    busy = _busy(np.concatenate(stretches))
    return _Span(seconds=float((busy[:, 1] - busy[:, 0]).sum()), overfull=overfull)


def _busy(stretches: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """
    Return the stretches of time in which somebody worked, in order.

    :param stretches: start and end of pieces of work; between two of them may be at most _PAUSE_S, else it is a pause.
    """
    import numpy as np

    ordered = stretches[np.argsort(stretches[:, 0], kind="stable")]
    ends = np.maximum.accumulate(ordered[:, 1])
    begins_anew = np.append(True, ordered[1:, 0] - ends[:-1] > _PAUSE_S)[: len(ordered)]
    ends_last = np.append(begins_anew[1:], True)[: len(ordered)]
    return np.stack([ordered[begins_anew, 0], ends[ends_last]], axis=1)


def _describe(
    folder: RunFolder, settings: RunSettings, committed: Committed, status: ReportStatus, result: str | None
) -> dict[str, Any]:
    progress, span = committed.progress, _span(committed)
    failures = first_failures(committed)
    return {
        "schema": SCHEMA,
        "at": time.time(),
        "status": status,
        "warnings": list(_warnings(progress, span, status)),
        "result": result,
        "mini_batches": {
            "total": progress.total,
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "not_tried": progress.total - progress.done,
        },
        "items": {
            "total": progress.items_total,
            "succeeded": progress.items_succeeded,
            "failed": progress.items_failed,
        },
        "rows": progress.elements,
        "seconds": round(span.seconds, 3),
        "thresholds": _thresholds(progress, settings.config.limits),
        "reused_from": settings.reused_from,
        "run": {**asdict(settings.identity), "folder": str(folder.path)},
        "failures": [_plain_failure(failed, committed.folder) for failed in failures],
    }


def _warnings(progress: Progress, span: _Span, status: ReportStatus) -> Iterator[str]:
    if status == "completed" and progress.items_total and not progress.items_succeeded:
        yield f"all {progress.items_total:,} items failed; the thresholds allow it, so the run is not aborted."
    if span.overfull:
        yield (
            f"run() returned more elements than items for {span.overfull:,} mini-batches; each of them counts "
            "as many succeeded items as it had."
        )


def _thresholds(progress: Progress, limits: Limits) -> dict[str, Any]:
    failed = failed_mini_batches(progress, limits)
    percent = round(failed * 100 / progress.total, 4) if progress.total else 0
    return {
        "error_threshold": {"limit": limits.error_threshold, "count": progress.items_failed},
        "allowed_failed_count": {"limit": limits.allowed_failed_count, "count": failed},
        "allowed_failed_percent": {"limit": limits.allowed_failed_percent, "count": percent},
    }


def _plain_failure(failed: FailedTry, folder: RunFolder) -> dict[str, Any]:
    return {"mini_batch": failed.index, "items": list(failed.items), **plain_try(failed, folder)}
