"""Continue the work of an earlier execution of plan of the same run, or say why plan starts over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from zipfile import is_zipfile

from airflow_prs.errors import ConfigError, DamagedError, RunFolderError
from airflow_prs.records import Limits, Manifest, Ruling, Shard
from airflow_prs.run_folder.committed import Committed, read_committed
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunRecord, RunRecordKind
from airflow_prs.run_folder.task_log import History
from airflow_prs.settings import RunSettings
from airflow_prs.thresholds.limits import judge
from airflow_prs.wording import counted, wrong

logger = logging.getLogger(__name__)

_NO_EFFECT = "%s has no effect in a continued folder: its shards stay as first planned.%s"


def find_unfinished(
    folder: RunFolder, history: History, work: Mapping[str, str], *, allow_reuse: bool
) -> RunFolder | None:
    """
    Return the folder of the newest execution if its work is the same and not finished; None: plan starts over.

    Which of the two it is, and why, is logged.

    :param folder: the folder that plan would make.
    :param history: the task log of the run.
    :param work: digest of each part of the work; empty if a part is not known.
    :param allow_reuse: whether earlier work may be used at all.
    """
    earlier = newest_folder(folder, history)
    if earlier is None:
        logger.info("Starting: this is the first execution of plan in this run.")
        return None
    why_not = _why_not(earlier, history, work, allow_reuse=allow_reuse)
    if why_not is not None:
        logger.info("Starting over: %s", why_not)
        return None
    logger.info("Continuing %s: the work is the same and not finished.", earlier.path)
    return earlier


def newest_folder(folder: RunFolder, history: History) -> RunFolder | None:
    """
    Return the folder of the newest execution of plan in a run; None: there is none.

    :param folder: a run folder of the run.
    """
    newest = history.newest_execution()
    return None if newest is None else RunFolder(folder.path.with_name(history.execution(newest).folder), newest)


def log_changed_terms(folder: RunFolder, settings: RunSettings) -> None:
    """
    Log which terms a continued folder gets.

    :param folder: the folder, under the terms of the execution before.
    :param settings: the settings of this execution.
    """
    before, now = folder.read_settings().terms, settings.terms
    if changed := [f"{name} is {now[name]!r}, was {before[name]!r}" for name in now if now[name] != before[name]]:
        logger.info("New terms: %s.", "; ".join(changed))
    if now["mini_batches_per_task"] != folder.read_planned_settings().terms["mini_batches_per_task"]:
        logger.info(_NO_EFFECT, "mini_batches_per_task", "")


def add_borrowing_shards(
    folder: RunFolder, manifest: Manifest, settings: RunSettings, *, max_shards: int
) -> tuple[Shard, ...]:
    """
    Return the shards that a continued folder gets in addition, so that node_count nodes can work. The log tells them.

    :param manifest: the manifest of the folder, whose shards stay as they are.
    :param settings: the settings of this execution.
    :param max_shards: the most shards that Airflow allows.
    :raises ConfigError: if there would be more.
    """
    nodes, planned = settings.config.node_count, len(manifest.shards)
    borrowing = manifest.borrowing_shards(nodes)
    if borrowing and settings.config.lend:
        if planned + len(borrowing) > max_shards:
            allowed = f"at most {max_shards}, because Airflow maps a task no more often ([core] max_map_length)"
            raise ConfigError([wrong("node_count", nodes, allowed)])
        added = counted(len(borrowing), "more node takes", "more nodes take")
        logger.info("The shards stay as first planned; %s mini-batches over from them.", added)
        return borrowing
    if nodes != folder.read_planned_settings().config.node_count:
        logger.info(_NO_EFFECT, "node_count", " With lend=False more nodes would have no work." if borrowing else "")
    return ()


def set_limits(folder: RunFolder, limits: Limits) -> None:
    """
    Append the limits of an execution to the run log of the folder that it continues, unless a newer one has begun.

    Equal ones too: an earlier execution that finds them knows that it is late.

    :param folder: the folder, under the terms of the execution.
    """
    task_log = folder.open_task_log()

    def make() -> RunRecord | None:
        if task_log.read().newest_execution() != folder.execution:
            return None
        return RunRecord(kind=RunRecordKind.LIMITS, author="plan", limits=limits)

    folder.run_log().append(make)


def _why_not(earlier: RunFolder, history: History, work: Mapping[str, str], *, allow_reuse: bool) -> str | None:
    """Return why plan cannot continue a folder; None: it can."""
    if not allow_reuse:
        return "allow_reuse is False."
    try:
        if history.rows_deleted(earlier.path.name) is not None:
            return "the execution before has published its result, and its rows were deleted (keep_rows=False)."
        return history.why_abandoned(earlier.path.name) or _why_unfit(earlier, work) or _why_finished(earlier, history)
    except (OSError, RunFolderError, ValueError) as error:
        return f"the execution before cannot be read: {error}"


def _why_unfit(earlier: RunFolder, work: Mapping[str, str]) -> str | None:
    """Return why a folder does not fit the work of this execution; None: it does."""
    settings = earlier.read_planned_settings()
    if settings.reused_from is not None:
        return "the execution before reused the result of another run."
    if not work or not settings.work:
        return "it is not known whether the work is the same (environment variables or packages cannot be compared)."
    changed = sorted(part for part in {*work, *settings.work} if work.get(part) != settings.work.get(part))
    return f"not the same as in the execution before: {', '.join(changed)}." if changed else None


def _why_finished(earlier: RunFolder, history: History) -> str | None:
    """Return why there is nothing to continue; None: mini-batches are left, or failed too often when last tried."""
    committed = _read_all(earlier)
    verdict = judge(committed.progress, earlier.read_settings().config.limits)
    is_published = history.newest_published(earlier.path.name) is not None
    if is_published and verdict.ruling is Ruling.COMPLETE:
        return "the execution before has published its result."
    return None


def _read_all(folder: RunFolder) -> Committed:
    """
    Read what every task of a continued folder needs, and return what was committed.

    What cannot be read would stop each of them again, and to clear plan would not help.
    """
    folder.run_log().follow()
    try:
        with folder.open_source() as archive:
            is_readable = is_zipfile(archive)
    except FileNotFoundError:
        is_readable = False
    if not is_readable:
        raise DamagedError(f"{folder.names.source_zip} is damaged or gone.")
    committed = read_committed(folder, folder.read_manifest())
    for state in committed.states:
        committed.require_rows(state)
    return committed
