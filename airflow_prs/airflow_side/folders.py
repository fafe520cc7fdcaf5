"""Folders that the Airflow installation names, or keeps below its home."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.configuration import conf

from airflow_prs.config.dataset_paths import remote_scheme, without_file_scheme
from airflow_prs.errors import ConfigError


def parallel_run_folder(option: str, name: str = "") -> Path:
    """
    Find a folder of ours.

    :param option: of ``[parallel_run]``, names it.
    :param name: where it lies below ``$AIRFLOW_HOME/parallel_run`` where the option is empty.
    :raises ConfigError: if the option is a URI that is not file://.
    """
    named = conf.get("parallel_run", option, fallback=None)
    if named and (scheme := remote_scheme(named)):
        problem = f"{scheme}:// is not supported yet; allowed: a local path or a mounted share"
        raise ConfigError([f"[parallel_run] {option} is {named!r}; {problem}"])
    if named:
        return Path(without_file_scheme(named))
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "parallel_run" / name
