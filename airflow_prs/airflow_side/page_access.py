"""
Who may see and change what on the live page, as Airflow's auth manager decides it.

For the API server alone: the imports take seconds, and tasks may not use the metadata database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    # Airflow 3.1.0 to 3.3.2: what the auth manager is asked about several DAGs together.
    from airflow.api_fastapi.auth.managers.models.batch_apis import IsAuthorizedDagRequest

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
    dag_ids = sorted(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))
    return set(_allowed([_request(dag_id, "GET", DagAccessEntity.RUN, team) for dag_id, team in _teams(dag_ids)], user))


def _allowed(requests: list[IsAuthorizedDagRequest], user: Any) -> Iterator[str]:
    """
    Yield the DAGs of the requests that are allowed.

    The auth manager, which may ask a server, answers for many together, with one word. Most often it is yes; otherwise
    each half is asked for.
    """
    if not requests:
        return
    if get_auth_manager().batch_is_authorized_dag(requests, user=user):
        yield from (str(request["details"].id) for request in requests if request["details"] is not None)
    elif len(requests) > 1:
        middle = len(requests) // 2
        yield from _allowed(requests[:middle], user)
        yield from _allowed(requests[middle:], user)


def _teams(dag_ids: list[str]) -> list[tuple[str, str | None]]:
    """Return DAGs with their teams."""
    # Airflow 3.1.0 has no such method.
    find_all = getattr(DagModel, "get_dag_id_to_team_name_mapping", None)
    teams = find_all(dag_ids) if find_all else {dag_id: DagModel.get_team_name(dag_id) for dag_id in dag_ids}
    return [(dag_id, teams.get(dag_id)) for dag_id in dag_ids]


def _may(user: Any, dag_id: str, method: Literal["GET", "PUT"], entity: DagAccessEntity) -> bool:
    request = _request(dag_id, method, entity, DagModel.get_team_name(dag_id))
    return bool(get_auth_manager().is_authorized_dag(**request, user=user))


def _request(
    dag_id: str, method: Literal["GET", "PUT"], entity: DagAccessEntity, team: str | None
) -> IsAuthorizedDagRequest:
    return {"method": method, "access_entity": entity, "details": DagDetails(id=dag_id, team_name=team)}
