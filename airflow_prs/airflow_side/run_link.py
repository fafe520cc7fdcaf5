"""The link from each task of a step to the live page of its run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_prs.airflow_side.addresses import own_page, run_tab
from airflow_prs.airflow_side.configuration import conf
from airflow_prs.airflow_side.versions import why_no_tab
from airflow_prs.step_tasks import step_of

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

_log = logging.getLogger(__name__)


class ParallelRunLink(BaseOperatorLink):
    """
    The button "Parallel run" of a task.

    Airflow stores the link when a task ends. leave_link() stores the same one when it begins, under the same key.
    """

    name = "Parallel run"
    xcom_key = "_link_parallel_run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address of the page; it is the same at any time."""
        return page_url(ti_key.dag_id, ti_key.run_id, step_of(operator.task_id))


RUN_LINKS = (ParallelRunLink(),)


def page_url(dag_id: str, run_id: str, step: str) -> str:
    """Return the address of the tab of a DAG run; of the page of its own where Airflow's UI can have no tab."""
    base = conf.get("api", "base_url", fallback="") or ""
    page = own_page(dag_id, run_id, step) if why_no_tab() else run_tab(dag_id, run_id)
    return f"{base.rstrip('/')}/{page}"


def leave_link(ti: RuntimeTaskInstanceProtocol) -> None:
    """Push the link of a task that begins, so that its button works while it runs."""
    link = RUN_LINKS[0]
    try:
        ti.xcom_push(str(link.xcom_key), page_url(ti.dag_id, ti.run_id, step_of(ti.task_id)))
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises: a button is not worth a failed task
        _log.debug("the link to the live page is not stored: %r", error)
