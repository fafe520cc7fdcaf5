"""What a run folder shows at one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunRecord
from airflow_prs.run_folder.task_log import History
from airflow_prs.settings import RunSettings
from airflow_prs.steering.orders import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    What a run folder shows at one time.

    :param settings: under the newest terms and limits.
    :param history: the task log.
    :param changes: what persons have changed, oldest first.
    :param abort: the record of the abort that binds the newest attempts; None: there is none.
    :param status: content of status.json; None: no node has begun.
    :param report: content of report.json; None: the run has never ended.
    :param head: the first lines of the result; None: there is none, or it is no text.
    """

    folder: RunFolder
    settings: RunSettings
    history: History
    changes: tuple[Change, ...] = ()
    abort: RunRecord | None = None
    status: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    head: list[str] | None = None
