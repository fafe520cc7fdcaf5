"""Folders that the Airflow installation names, or keeps below its home."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.configuration import conf


def parallel_run_folder(option: str, name: str = "") -> Path:
    """
    Find a folder of ours.

    :param option: of ``[parallel_run]``, names it.
    :param name: where it lies below ``$AIRFLOW_HOME/parallel_run`` where the option is empty.
    """
    named = conf.get("parallel_run", option, fallback=None)
    if named:
        return Path(named)
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "parallel_run" / name
