"""MergeOperator: publishes the result of a run and its reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_prs.airflow_side.handover import leave_summary, left_positions, planned_folder
from airflow_prs.airflow_side.run_link import RUN_LINKS, leave_link
from airflow_prs.airflow_side.tasks import as_task

if TYPE_CHECKING:
    from airflow.sdk import Context


class MergeOperator(BaseOperator):
    """
    Writes the rows of all mini-batches to one file, in the order of the input, and publishes it in one atomic step.

    The operator does not rely on the states of tasks: it judges the counts once more, and publishes only a complete
    result.

    :param plan_task_id: the id of the task that returns the run folder.
    :param shards_task_id: the id of the mapped task whose instances are the shards.
    """

    operator_extra_links = RUN_LINKS

    def __init__(self, *, plan_task_id: str, shards_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.shards_task_id = shards_task_id

    @as_task()
    def execute(self, context: Context) -> str:
        """Publish the result, push a summary of the report as the XCom ``summary``, and return the location."""
        from airflow_prs.result.merge import merge_run

        ti = context["ti"]
        leave_link(ti)
        folder = planned_folder(ti, self.plan_task_id)
        positions = left_positions(ti, self.shards_task_id, folder)
        result = merge_run(folder, try_number=ti.try_number, at_least=positions)
        self.log.info("The result is %s", result.location)
        if result.advice:
            self.log.warning("%s", result.advice)
        leave_summary(ti, {**_pick(result.report), "location": result.location, "advice": result.advice})
        return result.location


def _pick(report: Mapping[str, Any]) -> dict[str, Any]:
    names = ("status", "rows", "seconds", "mini_batches", "items", "thresholds", "warnings", "reused_from")
    return {**{name: report[name] for name in names}, "run_folder": report["run"]["folder"]}
