"""What a node is asked to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.environments.installing import Method
from airflow_prs.run_folder.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """
    Which shard to run, and what a room cannot know by itself.

    :param try_number: Airflow's number of this try.
    :param task_instance_id: Airflow's, another one with each try.
    :param max_tries: Airflow's; another number than before means that the shard was cleared.
    :param environ: the environment that worker processes inherit.
    :param variables: environment_variables, rendered.
    :param environments_root: folder of the environments that this machine has made.
    :param install_method: what makes them: ``uv``, ``pip``, or ``auto`` for uv where there is one.
    :param tells_results: whether worker processes say what run() returned, for who looks on.
    :param tell_progress: is told now and then how far the shard is, in a few numbers; returns at once.
    :param is_orphaned: whether Airflow's supervisor of this task is gone.
    :param redact: masks secrets in what processes and installers write; see masking.Masker.
    :param logger: the task's.
    """

    folder: RunFolder
    shard_number: int
    try_number: int
    task_instance_id: str
    max_tries: int
    environ: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    environments_root: Path = field(default_factory=lambda: Path.home() / ".cache" / "airflow_prs" / "environments")
    install_method: Method = "auto"
    tells_results: bool = False
    tell_progress: Callable[[Mapping[str, Any]], None] = lambda _progress: None
    is_orphaned: Callable[[], bool] = lambda: False
    redact: Callable[[str], str] = lambda text: text
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
