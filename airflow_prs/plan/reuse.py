"""Find an earlier run whose result is also the result of this one."""

from __future__ import annotations

import logging

from airflow_prs.errors import RunFolderError
from airflow_prs.records import RunIdentity
from airflow_prs.run_folder.folder import RunFolder, earlier_runs
from airflow_prs.settings import RunSettings

logger = logging.getLogger(__name__)


def find_reusable(settings: RunSettings, *, root: str, earlier: str | None) -> RunFolder | None:
    """
    Return the newest completed run folder with the same result; None: there is none.

    If that run itself reused another one, the run folder that holds the rows is returned. A run never reuses itself.

    :param settings: those of this run.
    :param root: folder whose run folders are searched.
    :param earlier: run folder of the last completed run, searched last; None: not known.
    """
    identity = settings.identity
    candidates = earlier_runs(root, identity.dag_id, identity.task_id)
    for candidate in [*candidates, *([RunFolder(earlier)] if earlier else [])]:
        found = _read_completed(candidate)
        if found is None or not settings.has_result_of(found) or is_same_run(found, identity):
            continue
        origin = candidate
        original: RunSettings | None = found
        if found.reused_from is not None:
            origin = RunFolder(found.reused_from)
            original = _read_completed(origin)
        if original is not None and not is_same_run(original, identity) and _has_rows(origin):
            return origin
    return None


def is_completed(folder: RunFolder) -> bool:
    """Return whether a run folder holds a completed run."""
    return _read_completed(folder) is not None


def _has_rows(folder: RunFolder) -> bool:
    if folder.open_task_log().read().rows_deleted(folder.path.name) is None:
        return True
    logger.info("No reuse of %s: its rows were deleted after its result was published (keep_rows=False).", folder.path)
    return False


def is_same_run(settings: RunSettings, identity: RunIdentity) -> bool:
    """Return whether settings are those of a run."""
    earlier = settings.identity
    return (earlier.dag_id, earlier.run_id, earlier.task_id) == (identity.dag_id, identity.run_id, identity.task_id)


def _read_completed(folder: RunFolder) -> RunSettings | None:
    """Return the settings of a completed run; None for a folder that is gone, damaged or of another version."""
    try:
        report = folder.read_report()
        return folder.read_settings() if report is not None and report["status"] == "completed" else None
    except (OSError, ValueError, KeyError, TypeError, RunFolderError):
        return None
