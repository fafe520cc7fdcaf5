"""MergeOperator: publishes the result of a run and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_prs.airflow_side.failures import no_retry_where_hopeless
from airflow_prs.airflow_side.handover import planned_folder

if TYPE_CHECKING:
    from airflow.sdk import Context


class MergeOperator(BaseOperator):
    """
    Gathers the rows of all mini-batches in the order of the input, and puts the file in its place at once.

    Trusts no task's state: it judges the counts once more, and publishes only what is complete.

    :param plan_task_id: the task that names the run folder.
    """

    def __init__(self, *, plan_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id

    def execute(self, context: Context) -> str:
        """Publish, and return the location of the result."""
        from airflow_prs.result.merge import merge_run

        folder = planned_folder(context["ti"], self.plan_task_id)
        with no_retry_where_hopeless():
            result = merge_run(folder, folder.read_settings(), folder.read_manifest())
        self.log.info("The result is %s", result.location)
        return result.location
