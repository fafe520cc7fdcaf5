"""Find the run folder that a user means."""

from __future__ import annotations

from pathlib import Path

from airflow_prs.errors import RunFolderError
from airflow_prs.object_storage.addresses import is_remote
from airflow_prs.run_folder.folder import RunFolder, all_plans


def find_run_folder(path: str) -> RunFolder:
    """
    Return a run folder.

    :param path: the run folder itself, or an output folder, which means its newest run.
    :raises RunFolderError: if there is none.
    """
    place = path if is_remote(path) else Path(path).absolute()
    folder = RunFolder(place)
    if folder.is_planned:
        return folder
    plans = all_plans(place)
    if not plans:
        raise RunFolderError(
            f"{path} is not a run folder and contains none; allowed: the output folder of a job, or a run folder, "
            "which holds config.json"
        )
    return plans[-1]
