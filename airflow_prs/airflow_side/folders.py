"""Folders that the Airflow installation configures, or keeps below its home."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_prs.airflow_side.configuration import conf
from airflow_prs.config.dataset_paths import remote_scheme, without_file_scheme
from airflow_prs.errors import ConfigError


def parallel_run_folder(option: str, name: str = "") -> Path:
    """
    Return a folder that an option in ``[parallel_run]`` sets.

    :param option: the name of the option.
    :param name: the folder's name below ``$AIRFLOW_HOME/parallel_run`` if the option is empty.
    :raises ConfigError: if the option is a URI other than file://.
    """
    named = conf.get("parallel_run", option, fallback=None)
    if named and (scheme := remote_scheme(named)):
        problem = f"{scheme}:// is not supported yet; allowed: a local path or a mounted share"
        raise ConfigError([f"[parallel_run] {option} is {named!r}; {problem}"])
    if named:
        return Path(without_file_scheme(named))
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "parallel_run" / name
