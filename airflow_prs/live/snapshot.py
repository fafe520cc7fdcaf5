"""What a run folder shows at one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import RunRecord
from airflow_prs.run_folder.task_log import History
from airflow_prs.settings import RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    What a run folder shows at one time.

    :param settings: under the newest terms and limits.
    :param history: the task log.
    :param records: the run log.
    :param status: content of status.json; None: no node has begun.
    :param report: content of report.json; None: the run has never ended.
    """

    folder: RunFolder
    settings: RunSettings
    history: History
    records: tuple[RunRecord, ...]
    status: dict[str, Any] | None
    report: dict[str, Any] | None
