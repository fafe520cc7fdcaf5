"""``show``: print the progress of a run, its result, its failures and where the logs are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_prs.cli.console import shown_moment
from airflow_prs.report.reports import describe_failures, describe_report, first_failures
from airflow_prs.run_folder.committed import Committed, read_result
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunRecord
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.settings import RunSettings
from airflow_prs.steering.orders import Change, changes, newest_abort

_REFRESH_S = 1.0
_SHARDS_SHOWN = 40
_QUIET_S = 60
"""A node without a commit for longer may have died, or run() takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """
    The state of a run at one time.

    :param committed: what its shards have committed; None: plan has not finished.
    :param borrowing: states of the shards without mini-batches, whose nodes only take them over.
    :param report: content of report.json; None: there is none, or an attempt has started since it was written.
    :param abort: the record of the abort that binds the newest attempts; None: there is none.
    :param changes: what persons, and later executions of plan, have changed.
    """

    folder: RunFolder
    settings: RunSettings
    committed: Committed | None
    borrowing: tuple[ShardState, ...] = ()
    report: dict[str, Any] | None
    abort: RunRecord | None
    changes: tuple[Change, ...] = ()


def show(folder: RunFolder, *, is_following: bool) -> int:
    """
    Print the state of a run, and return the exit code.

    :param is_following: whether to refresh the output every second until the run has ended.
    :return: 1: the run was aborted or has failed.
    """
    run = _read(folder)
    if is_following:
        run = _follow(folder, run)
    print(_page(run))  # noqa: T201 - the command's output
    has_failed = run.report is not None and run.report["status"] in {"aborted", "failed"}
    return 1 if has_failed or run.abort is not None else 0


def _follow(folder: RunFolder, run: _Run) -> _Run:
    from rich.live import Live
    from rich.text import Text

    with Live(Text(_page(run)), auto_refresh=False, transient=True) as live:
        while not _has_ended(run):
            time.sleep(_REFRESH_S)
            run = _read(folder)
            live.update(Text(_page(run)), refresh=True)
    return run


def _has_ended(run: _Run) -> bool:
    """Whether the run has its report, or was aborted and no shard works on it: a run of a shell that was cancelled."""
    if run.report is not None:
        return True
    if run.committed is None or run.abort is None:
        return False
    now = time.time()
    return not any(
        state.record is not None and state.closing is None and now - state.record.at < _QUIET_S
        for state in (*run.committed.states, *run.borrowing)
    )


def _read(folder: RunFolder) -> _Run:
    settings = folder.read_settings()
    if not folder.has_manifest:
        return _Run(folder=folder, settings=settings, committed=None, report=None, abort=None)
    manifest, log, node_count = folder.read_manifest(), folder.read_run_log(), settings.config.node_count
    committed = read_result(folder, settings, manifest)
    return _Run(
        folder=folder,
        settings=settings,
        committed=committed,
        borrowing=tuple(folder.read_borrowing_shards(manifest, node_count)),
        report=_read_report(folder, committed),
        abort=newest_abort(folder, log, node_count),
        changes=tuple(changes(log.records, folder.read_planned_settings().config.limits)),
    )


def _read_report(folder: RunFolder, committed: Committed) -> dict[str, Any] | None:
    """Return the report; None: there is none, or it is older than an attempt, so the run has continued since."""
    report = folder.read_report()
    started = max((state.claim.started for state in committed.states if state.claim is not None), default=0.0)
    return report if report is not None and report["at"] >= started else None


def _page(run: _Run) -> str:
    return "\n\n".join(_paragraphs(run))


def _paragraphs(run: _Run) -> Iterator[str]:
    identity = run.settings.identity
    title = f"{identity.dag_id} · {identity.task_id} · {identity.run_id}"
    yield f"{title}\nRun folder: {run.folder.path}"
    if run.committed is None:
        yield "Not planned yet: plan is still running, or has failed."
        return
    yield _progress(run)
    yield "\n".join([*_shard_lines(run.committed.states), *_borrowing_lines(run.borrowing, run.committed.states)])
    if run.changes:
        yield "\n".join(f"{shown_moment(change.at)} by {change.author}: {change.what}" for change in run.changes)
    if run.abort is not None and run.abort.abort is not None:
        yield f"Aborted by {run.abort.author}: {run.abort.abort.verdict.reason}."
    failures = first_failures(run.committed)
    if failures:
        yield "First failures:"
        yield from describe_failures(failures, run.committed.folder)
    yield f"Logs: {run.committed.folder.names.logs}"


def _progress(run: _Run) -> str:
    if run.report is not None and "mini_batches" in run.report:
        names = run.folder.names
        reports = (names.report, names.processed, names.process_summary, names.node_summary, names.failed_items)
        return "\n".join([describe_report(run.report), f"Reports: {', '.join(path.name for path in reports)}"])
    if run.committed is None:
        return ""
    progress = run.committed.progress
    return (
        f"Not finished: {progress.done:,} of {progress.total:,} mini-batches done, {progress.failed:,} of them failed; "
        f"{progress.failing:,} will be tried again; {progress.items_succeeded:,} of {progress.items_total:,} items "
        f"succeeded, {progress.items_failed:,} failed.{_pace(run.folder, progress.total - progress.done)}"
    )


def _pace(folder: RunFolder, left: int) -> str:
    """Return the speed of the running nodes and the time left, from their last status; '' if it is not known."""
    status = folder.read_status()
    if status is None:
        return ""
    rate = status["mini_batches_per_s"]
    if not rate or time.time() - status["at"] > _QUIET_S:
        return ""
    return f"\n{rate:.3g} mini-batches a second, about {left / rate:,.0f} seconds left."


def _shard_lines(states: tuple[ShardState, ...]) -> Iterator[str]:
    """Yield a line for each shard; if there are many, only for the first ones that are not done, after their number."""
    shown = states
    if len(states) > _SHARDS_SHOWN:
        shown = tuple(state for state in states if not state.is_done)[:_SHARDS_SHOWN]
        yield f"{sum(state.is_done for state in states):,} of {len(states):,} shards are done; the first of the others:"
    for state in shown:
        progress = state.progress
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        yield f"{state.shard.label}: {progress.done:,} of {progress.total:,} done{failed}; {_describe(state)}"


def _borrowing_lines(borrowing: tuple[ShardState, ...], states: tuple[ShardState, ...]) -> Iterator[str]:
    """Yield a line for each borrowing shard; its log does not tell what it has borrowed, those of the lenders do."""
    lenders: dict[int, set[int]] = {}
    for lender in states:
        for loan in lender.loans:
            if loan.is_open:
                lenders.setdefault(loan.loan.borrower.shard, set()).add(lender.shard.number)
    for state in borrowing:
        numbers = ", ".join(map(str, sorted(lenders.get(state.shard.number, ()))))
        yield f"{state.shard.label}; {f'works on some of shard {numbers}' if numbers else _describe(state)}"


def _describe(state: ShardState) -> str:
    if state.record is None:
        return "not begun"
    node = state.record.claim.writer.node
    if state.closing is not None:
        return f"{state.closing.value} on {node}"
    since_s = time.time() - state.record.at
    last = f"last update {since_s:,.0f} s ago"
    return f"running on {node}, {last}" + (", may have died" if since_s > _QUIET_S else "")
