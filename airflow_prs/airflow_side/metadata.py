"""
What the metadata database knows of the runs of a step.

For the API server alone: tasks may not use the database. A request names a DAG, a run and a step, and never where
something is: that comes from the XCom of plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

# Airflow 3.1.0 to 3.3.2: the state of a run, and how often it was cleared.
from airflow.models.dagrun import DagRun

# Airflow 3.1.0 to 3.3.2: the states and tries of the tasks of a step.
from airflow.models.taskinstance import TaskInstance

# Airflow 3.1.0 to 3.3.2: what tasks have left; the API server has no task that could pull it.
from airflow.models.xcom import XComModel

# Airflow 3.1.0 to 3.3.2: a session for a request.
from airflow.utils.session import create_session

from airflow_prs.airflow_side.handover import (
    ERROR_KEY,
    PLAN_KEY,
    SUMMARY_KEY,
    HandoverError,
    read_handover,
)
from airflow_prs.airflow_side.step_facts import StepFacts, TaskFacts
from airflow_prs.step_tasks import MERGE, MINI_BATCHES, PLAN, TASKS, step_of, task_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_PLAN_OPERATOR = "PlanOperator"
_LONGEST_LIST = 200


def read_step(dag_id: str, run_id: str, step: str) -> StepFacts | None:
    """Return what Airflow knows of a step in a run; None: there is no such run, or no such step in it."""
    with create_session() as session:
        return _read_step(session, dag_id, run_id, step)


def steps_of_run(dag_id: str, run_id: str) -> list[StepFacts]:
    """Return the steps of a run."""
    with create_session() as session:
        plans = session.query(TaskInstance.task_id).filter(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.operator == _PLAN_OPERATOR,
        )
        steps = sorted({step_of(task_id) for (task_id,) in plans})
        found = [_read_step(session, dag_id, run_id, step) for step in steps]
    return [facts for facts in found if facts is not None]


def newest_steps(dag_ids: Collection[str], limit: int) -> list[StepFacts]:
    """
    Return the steps whose plans ended last, the newest one first.

    :param dag_ids: of these DAGs alone.
    """
    with create_session() as session:
        is_plan = XComModel.task_id.endswith(task_of("", PLAN))
        plans = (
            session.query(XComModel.dag_id, XComModel.run_id, XComModel.task_id)
            .filter(XComModel.key == PLAN_KEY, XComModel.dag_id.in_(dag_ids), is_plan)
            .order_by(XComModel.timestamp.desc())
            .limit(min(limit, _LONGEST_LIST))
        )
        found = [_read_step(session, dag_id, run_id, step_of(task_id)) for dag_id, run_id, task_id in plans]
    return [facts for facts in found if facts is not None]


def _read_step(session: Session, dag_id: str, run_id: str, step: str) -> StepFacts | None:
    run = session.query(DagRun).filter(DagRun.dag_id == dag_id, DagRun.run_id == run_id).one_or_none()
    tasks, plan = _read_tasks(session, dag_id, run_id, step), task_of(step, PLAN)
    if run is None or plan not in tasks:
        return None
    left = {(task_id, key): value for task_id, key, value in _left(session, dag_id, run_id, step)}
    handover, problem = None, ""
    try:
        handover = read_handover(left.get((plan, PLAN_KEY)), plan)
    except HandoverError as error:
        problem = f"{error}; clear {plan}"
    summary = left.get((task_of(step, MERGE), SUMMARY_KEY))
    failure = left.get((task_of(step, MINI_BATCHES), ERROR_KEY))
    return StepFacts(
        dag_id=dag_id,
        run_id=run_id,
        step=step,
        run_names=frozenset({run_id, *([f"test__{run.logical_date.isoformat()}"] if run.logical_date else [])}),
        clear_number=getattr(run, "clear_number", None),
        tasks=tasks,
        handover=handover,
        problem=problem,
        summary=summary if isinstance(summary, Mapping) else None,
        error=None if failure is None else str(failure),
    )


def _read_tasks(session: Session, dag_id: str, run_id: str, step: str) -> dict[str, dict[int, TaskFacts]]:
    wanted = TaskInstance
    rows = session.query(
        wanted.task_id,
        wanted.map_index,
        wanted.operator,
        wanted.state,
        wanted.try_number,
        wanted.start_date,
        wanted.end_date,
    ).filter(
        wanted.dag_id == dag_id,
        wanted.run_id == run_id,
        wanted.task_id.in_([task_of(step, task) for task in TASKS]),
    )
    tasks: dict[str, dict[int, TaskFacts]] = {}
    for task_id, map_index, operator, state, try_number, started, ended in rows:
        if task_id == task_of(step, PLAN) and operator != _PLAN_OPERATOR:
            return {}
        tasks.setdefault(task_id, {})[map_index] = TaskFacts(
            state=None if state is None else str(getattr(state, "value", state)),
            try_number=try_number or 0,
            started=started.timestamp() if started else None,
            ended=ended.timestamp() if ended else None,
        )
    return tasks


def _left(session: Session, dag_id: str, run_id: str, step: str) -> Iterator[tuple[str, str, Any]]:
    """Yield task id, key and value of the XComs that count, of the shards the first error alone."""
    keys = {PLAN: PLAN_KEY, MERGE: SUMMARY_KEY, MINI_BATCHES: ERROR_KEY}
    for task, key in keys.items():
        row = (
            session.query(XComModel)
            .filter(
                XComModel.dag_id == dag_id,
                XComModel.run_id == run_id,
                XComModel.task_id == task_of(step, task),
                XComModel.key == key,
            )
            .order_by(XComModel.map_index)
            .first()
        )
        if row is not None:
            yield row.task_id, row.key, _value(row)


def _value(row: Any) -> Any:
    value = XComModel.deserialize_value(row)
    if isinstance(value, Mapping) or row.key == ERROR_KEY:
        return value
    # Airflow 3.1.0 to 3.3.2: a custom XCom backend may keep values elsewhere, and leave a reference in the database.
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.deserialize_value(row)
