"""Folders that the Airflow installation configures, or keeps below its home."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_prs.airflow_side.configuration import conf
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.errors import ConfigError
from airflow_prs.object_storage.addresses import find_problem, is_remote, shown_path


def run_root() -> str:
    """
    Return the folder of runs without an output, a local path or an address, which ``[parallel_run] run_root`` sets.

    The default is ``$AIRFLOW_HOME/parallel_run``.

    :raises ConfigError: if the option is another URI than an address or file://.
    """
    return _option("run_root") or str(_default())


def environments_root() -> Path:
    """
    Return the local folder of environments, which ``[parallel_run] environments_root`` sets.

    The default is ``$AIRFLOW_HOME/parallel_run/environments``.

    :raises ConfigError: if the option is not a local path.
    """
    named = _option("environments_root")
    if named and is_remote(named):
        problem = "allowed: a local path or a mounted share, since Python cannot start from object storage"
        raise ConfigError([f"[parallel_run] environments_root is {named!r}; {problem}"])
    return Path(named) if named else _default() / "environments"


def _option(name: str) -> str | None:
    named = conf.get("parallel_run", name, fallback=None)
    if named and (problem := find_problem(named)):
        raise ConfigError([f"[parallel_run] {name} is {shown_path(named)}; {problem}"])
    return as_text(named) if named else None


def _default() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "parallel_run"
