"""MergeOperator: publishes the result of a run and its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseOperator

from airflow_prs.airflow_side.handover import add_to_asset_events, leave_summary, left_positions, planned_folder
from airflow_prs.airflow_side.lineage import left_inputs, name_of, to_openlineage
from airflow_prs.airflow_side.run_link import RUN_LINKS, leave_link
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.report.summary import summarize

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_prs.airflow_side.lineage import LineageName
    from airflow_prs.report.summary import RunSummary


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
        self._lineage: tuple[list[LineageName], list[LineageName]] | None = None

    @as_task
    def execute(self, context: Context) -> str:
        """Publish the result, leave a summary of the report as the XCom ``summary``, and return the location."""
        from airflow_prs.result.merge import merge_run

        ti = context["ti"]
        leave_link(ti)
        folder = planned_folder(ti, self.plan_task_id)
        positions = left_positions(ti, self.shards_task_id, folder)
        result = merge_run(folder, try_number=ti.try_number, at_least=positions)
        summary = cast("RunSummary", summarize(result.report, advice=result.advice))
        leave_summary(context, summary)
        add_to_asset_events(context, self.outlets, summary)
        if result.advice:
            self.log.warning("%s", result.advice)
        self.log.info("%s: %s", summary["headline"], result.location)
        if result.location and (name := name_of(result.location)) is not None:
            self._lineage = left_inputs(ti, self.plan_task_id), [name]
        return result.location

    def get_openlineage_facets_on_complete(self, _ti: Any) -> Any:
        """Return the inputs and the result for OpenLineage; None: its provider is not installed."""
        return None if self._lineage is None else to_openlineage(*self._lineage)
