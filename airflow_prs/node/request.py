"""The request to run a shard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.environments.installing import Method
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """
    Which shard to run, and what only the caller knows.

    :param task_try: Airflow's try of the task.
    :param environ: the environment that worker processes inherit.
    :param variables: environment_variables, rendered.
    :param environments_root: folder of the environments on this machine.
    :param install_method: ``uv``, ``pip``, or ``auto`` for uv if it is installed.
    :param tells_results: whether worker processes describe what run() returned, in the task log.
    :param tell_progress: called every 30 seconds with the counts of the shard; must not block.
    :param tell_counts: called every 30 seconds and at the end, in any thread, with what work.meter counted since.
    :param awaits_others_s: seconds for which a borrowing shard waits for others that have mini-batches to lend.
    :param is_orphaned: whether Airflow's supervisor of this task is gone.
    :param redact: masks secrets in what processes and installers write; see masking.Masker.
    :param logger: the task's.
    """

    folder: RunFolder
    shard_number: int
    task_try: TaskTry
    environ: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    environments_root: Path = field(default_factory=lambda: Path.home() / ".cache" / "airflow_prs" / "environments")
    install_method: Method = "auto"
    tells_results: bool = False
    tell_progress: Callable[[Mapping[str, Any]], None] = lambda _progress: None
    tell_counts: Callable[[Mapping[str, int]], None] = lambda _counts: None
    awaits_others_s: float = 0.0
    is_orphaned: Callable[[], bool] = lambda: False
    redact: Callable[[str], str] = lambda text: text
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
