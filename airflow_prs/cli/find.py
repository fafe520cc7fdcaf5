"""Find the run folder that a user means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow_prs.errors import RunFolderError
from airflow_prs.object_storage.addresses import is_remote
from airflow_prs.records import RunIdentity
from airflow_prs.run_folder.folder import RunFolder, all_plans


def find_run_folder(path: str, *, dag_id: str | None = None, run_id: str | None = None) -> RunFolder:
    """
    Return a run folder.

    :param path: the run folder itself, or an output folder, which means its newest run.
    :param dag_id: only runs of this DAG; None: of any.
    :param run_id: only this run; None: any.
    :raises RunFolderError: if there is none, or several steps have used the output in the run.
    """
    place = path if is_remote(path) else Path(path).absolute()
    folder = RunFolder(place)
    plans = [folder] if folder.is_planned else all_plans(place)
    if not plans:
        raise RunFolderError(
            f"{path} is not a run folder and contains none; allowed: the output folder of a job, or a run folder, "
            "which holds config.json"
        )
    if dag_id is None and run_id is None:
        return plans[-1]
    found = list(_of_run(plans, dag_id, run_id))
    if not found:
        wanted = " and ".join(f"{name} {value!r}" for name, value in (("DAG", dag_id), ("run", run_id)) if value)
        raise RunFolderError(f"{path} holds no run of {wanted}; `runs list` shows the runs of an output.")
    newest, identity = found[-1]
    same_run = (other for other in found if (other[1].dag_id, other[1].run_id) == (identity.dag_id, identity.run_id))
    if len({other.task_id for _, other in same_run}) > 1:
        raise RunFolderError(f"several steps of run {identity.run_id!r} have used {path}; pass the run folder of one.")
    return newest


def _of_run(
    plans: Iterable[RunFolder], dag_id: str | None, run_id: str | None
) -> Iterator[tuple[RunFolder, RunIdentity]]:
    for folder in plans:
        try:
            identity = folder.read_planned_settings().identity
        except RunFolderError:
            continue  # damaged, or of another version
        if dag_id in {None, identity.dag_id} and run_id in {None, identity.run_id}:
            yield folder, identity
