"""``show``: how far a run is, what came of it, what failed and where the logs are; also of a run that goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_prs.cli.find import find_run_folder
from airflow_prs.report.reports import describe_failures, describe_report, first_failures_of
from airflow_prs.run_folder.attempt_records import Closing, StoredVerdict
from airflow_prs.run_folder.committed import Committed, read_result
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.settings import RunSettings

_REFRESH_S = 1.0
_SHARDS_SHOWN = 40
_QUIET_S = 60
"""A node that has committed nothing for so long may have died; it may as well be in a long run()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """
    A run as it was seen once.

    :param committed: what its shards have committed; None: plan is not through.
    :param report: what report.json holds, unless a shard has begun anew since; None: the run goes on.
    :param verdict: the one that stands.
    """

    folder: RunFolder
    settings: RunSettings
    committed: Committed | None
    report: dict[str, Any] | None
    verdict: StoredVerdict | None


def show(path: str, *, is_following: bool) -> int:
    """
    Print a run's page.

    :param path: a run folder, or an output folder whose newest run is meant.
    :param is_following: whether it is printed anew each second until the run is over.
    """
    folder = find_run_folder(path)
    sight = _look(folder)
    if is_following:
        sight = _follow(folder, sight)
    print(_page(sight))  # noqa: T201 - the command's output
    return 0


def _follow(folder: RunFolder, sight: _Sight) -> _Sight:
    from rich.live import Live
    from rich.text import Text

    with Live(Text(_page(sight)), auto_refresh=False, transient=True) as live:
        while sight.report is None:
            time.sleep(_REFRESH_S)
            sight = _look(folder)
            live.update(Text(_page(sight)), refresh=True)
    return sight


def _look(folder: RunFolder) -> _Sight:
    settings = folder.read_settings()
    if not folder.names.manifest.is_file():
        return _Sight(folder=folder, settings=settings, committed=None, report=None, verdict=None)
    manifest = folder.read_manifest()
    committed = read_result(folder, settings, manifest)
    set_aside = {name for state in committed.states if state.claim is not None for name in state.claim.set_aside}
    return _Sight(
        folder=folder,
        settings=settings,
        committed=committed,
        report=_read_report(folder, committed),
        verdict=folder.standing_verdict(manifest, set_aside),
    )


def _read_report(folder: RunFolder, committed: Committed) -> dict[str, Any] | None:
    """Read the report; one that is older than an attempt is that of an earlier end."""
    try:
        written = folder.names.report.stat().st_mtime
        report: dict[str, Any] = json.loads(folder.names.report.read_bytes())
    except FileNotFoundError:
        return None
    begun = max((state.claim.started for state in committed.states if state.claim is not None), default=0.0)
    return report if written >= begun else None


def _page(sight: _Sight) -> str:
    return "\n\n".join(_paragraphs(sight))


def _paragraphs(sight: _Sight) -> Iterator[str]:
    identity = sight.settings.identity
    title = f"{identity.dag_id} · {identity.task_id} · {identity.run_id}"
    yield f"{title}\nRun folder: {sight.folder.path}"
    if sight.committed is None:
        yield "Not planned yet: plan is at work, or has failed."
        return
    yield _state(sight)
    yield "\n".join(_shard_lines(sight.committed.states))
    if (stored := sight.verdict) is not None:
        yield f"Verdict: {stored.verdict.ruling.value}, by {stored.author}: {stored.verdict.reason}."
    failures = first_failures_of(sight.committed)
    if failures:
        yield "First failures:"
        yield from describe_failures(failures, sight.committed.folder)
    yield f"Logs: {sight.committed.folder.names.logs}"


def _state(sight: _Sight) -> str:
    if sight.report is not None and "mini_batches" in sight.report:
        names = sight.folder.names
        reports = (names.report, names.processed, names.process_summary, names.node_summary, names.failed_items)
        return "\n".join([describe_report(sight.report), f"Reports: {', '.join(path.name for path in reports)}"])
    if sight.committed is None:
        return ""
    progress = sight.committed.progress
    return (
        f"Not over: {progress.done:,} of {progress.total:,} mini-batches done, {progress.failed:,} of them failed; "
        f"{progress.failing:,} will be tried again; {progress.items_succeeded:,} of {progress.items_total:,} items "
        f"succeeded, {progress.items_failed:,} failed.{_pace(sight.folder, progress.total - progress.done)}"
    )


def _pace(folder: RunFolder, left: int) -> str:
    """Say how fast the running nodes are, as they told last."""
    try:
        status = json.loads(folder.names.status.read_bytes())
    except FileNotFoundError:
        return ""
    rate = status["mini_batches_per_s"]
    if not rate or time.time() - status["at"] > _QUIET_S:
        return ""
    return f"\n{rate:.3g} mini-batches a second, about {left / rate:,.0f} seconds to go."


def _shard_lines(states: tuple[ShardState, ...]) -> Iterator[str]:
    """Those that are done come to a number where there are many."""
    shown = states
    if len(states) > _SHARDS_SHOWN:
        shown = tuple(state for state in states if not _is_done(state))[:_SHARDS_SHOWN]
        yield f"{sum(map(_is_done, states)):,} of {len(states):,} shards are done; the first of the others:"
    for state in shown:
        progress = state.progress
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        yield f"{state.shard.label}: {progress.done:,} of {progress.total:,} done{failed}; {_describe(state)}"


def _describe(state: ShardState) -> str:
    if state.claim is None:
        return "not begun"
    node = state.claim.node
    if state.closing is not None:
        return f"{state.closing.value} on {node}"
    since_s = time.time() - (state.commit.at if state.commit is not None else state.claim.started)
    last = f"last sign {since_s:,.0f} s ago"
    return f"at work on {node}, {last}" + (", if it has not died" if since_s > _QUIET_S else "")


def _is_done(state: ShardState) -> bool:
    return state.closing is Closing.DONE
