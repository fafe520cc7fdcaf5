"""The place of a step in its DAG: what is open, which ids are free, what comes before and after."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

# Airflow 3.1.0 to 3.3.2: no public name returns the current DAG and task group, whose ids @parallel_run needs, or says
# whether a DAG file is being parsed.
from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext

# Airflow 3.1.0 to 3.3.2: only this subclass of XComArg, which XComArg() returns, has the fields operator and key.
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_prs.airflow_side.handover import SUMMARY_KEY, without_plan
from airflow_prs.step_tasks import PLAN, task_of

if TYPE_CHECKING:
    from airflow.sdk import DAG, EdgeModifier, TaskGroup


class StepOutput(PlainXComArg):
    """The value that a step returns. A task upstream of it runs before the entire step, not only before merge."""

    @property
    def summary(self) -> StepOutput:
        """A RunSummary of the published result, for downstream tasks."""
        return type(self)(self.operator, key=SUMMARY_KEY)

    @property
    def roots(self) -> list[Any]:
        """The first tasks of the step."""
        return self._step.roots  # type: ignore[no-any-return]

    def set_upstream(self, task_or_task_list: Any, edge_modifier: EdgeModifier | None = None) -> None:
        """Run the step after other tasks."""
        self._step.set_upstream(task_or_task_list, edge_modifier)

    def update_relative(
        self,
        other: Any,
        upstream: bool = True,  # noqa: FBT001, FBT002  (Airflow's own)
        edge_modifier: EdgeModifier | None = None,
    ) -> None:
        """Tell the graph view that another node is before or after the step."""
        self._step.update_relative(other, upstream, edge_modifier)

    @property
    def _step(self) -> Any:
        return self.operator.task_group


class PlannedShards(PlainXComArg):
    """The shards that plan returns, for the mapped task to expand over."""

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """
        Return the shards.

        :raises AirflowFailException: if plan has left none; Airflow would raise a KeyError without a name.
        """
        shards = super().resolve(context)
        if shards is None:
            raise without_plan(self.operator.task_id)
        return shards


def is_parsing_dag_file() -> bool:
    """Whether Airflow is parsing a DAG file, after which it shows any error that a step has raised."""
    return DagContext.current_autoregister_module_name is not None


def free_id(wanted: str, dag: DAG | None, group: TaskGroup | None) -> str:
    """
    Return an id for a step; as Airflow's own decorators do, number further calls.

    :param dag: of the step; None: the open one, if any.
    :param group: around the step; None: the open one, if any.
    """
    dag = dag or (group.dag if group is not None else DagContext.get_current())
    if dag is None:
        return wanted  # the step raises the error
    around = group or TaskGroupContext.get_current(dag) or dag.task_group
    ids = itertools.chain([wanted], (f"{wanted}__{number}" for number in itertools.count(1)))
    return next(each for each in ids if task_of(around.child_id(each), PLAN) not in dag.task_dict)  # type: ignore[no-untyped-call]
