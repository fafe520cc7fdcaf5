"""An auth manager whose users have few rights, each of another kind."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

_READS = {("GET", None), ("GET", DagAccessEntity.RUN)}
_EDITS = _READS | {
    ("GET", DagAccessEntity.TASK_LOGS),
    ("PUT", DagAccessEntity.RUN),
    ("GET", DagAccessEntity.TASK_INSTANCE),
    ("PUT", DagAccessEntity.TASK_INSTANCE),
}
RIGHTS = {"reader": _READS, "investigator": _READS | {("GET", DagAccessEntity.TASK_LOGS)}, "editor": _EDITS}
ELSEWHERE = "of_others"
"""The only DAG of the user "guest", who may do everything there."""


class PickyAuthManager(SimpleAuthManager):
    """Everything is decided by the name of the user and the DAG."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        if user.username == "guest":
            return details is not None and details.id == ELSEWHERE
        return (method, access_entity) in RIGHTS.get(user.username, ())
