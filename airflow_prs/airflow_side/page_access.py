"""
Who may see and change what on the live page, as Airflow's auth manager decides it.

For the API server alone: the imports take seconds, and tasks may not use the metadata database.
"""

from __future__ import annotations

from typing import Any, Literal

# Airflow 3.1.0 to 3.3.2: Airflow does not authenticate the apps of plugins, and offers nothing public to do it with.
from airflow.api_fastapi.app import get_auth_manager

# Airflow 3.1.0 to 3.3.2: the parameters of the auth manager.
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

# Airflow 3.1.0 to 3.3.2: the user of a request, from its header or, since 3.1.1, its cookie.
from airflow.api_fastapi.core_api.security import GetUserDep as User

# Airflow 3.1.0 to 3.3.2: 401 and 403 as for Airflow's own routes, which have a {dag_id}, too.
from airflow.api_fastapi.core_api.security import requires_access_dag

# Airflow 3.1.0 to 3.3.2: an entry of the audit log, as for Airflow's own routes.
from airflow.api_fastapi.logging.decorators import action_logging as audited

# Airflow 3.1.0 to 3.3.2: with several teams, the auth manager wants to know whose DAG it is.
from airflow.models.dag import DagModel
from fastapi import Depends

__all__ = ["CHANGES_RUN", "READS_LOGS", "READS_RUN", "User", "audited", "may_edit", "may_read_logs", "readable_dags"]

READS_RUN = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
READS_LOGS = Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))
CHANGES_RUN = Depends(requires_access_dag("PUT", DagAccessEntity.RUN))


def may_edit(user: Any, dag_id: str) -> bool:
    """Return whether a user may change the runs of a DAG."""
    return _may(user, dag_id, "PUT", DagAccessEntity.RUN)


def may_read_logs(user: Any, dag_id: str) -> bool:
    """Return whether a user may read the task logs of a DAG."""
    return _may(user, dag_id, "GET", DagAccessEntity.TASK_LOGS)


def readable_dags(user: Any) -> set[str]:
    """Return the DAGs whose runs a user may read."""
    dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return {dag_id for dag_id in dag_ids if _may(user, dag_id, "GET", DagAccessEntity.RUN)}


def _may(user: Any, dag_id: str, method: Literal["GET", "PUT"], entity: DagAccessEntity) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return bool(get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user))
