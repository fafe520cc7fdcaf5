"""What Airflow is told of our errors: whether to try again, and a text without the way through this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.supervision import is_supervised
from airflow_prs.errors import (
    ConfigError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    InputError,
    PrsError,
    RunAbortedError,
    StorageRefusedError,
)
from airflow_prs.wording import HOW_TO_GO_ON

if TYPE_CHECKING:
    from airflow.sdk import Context

_HOPELESS = (
    ConfigError,
    InputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    RunAbortedError,
    StorageRefusedError,
)
"""Errors that another try would only repeat."""


def for_airflow(error: PrsError, context: Context) -> Exception:
    """
    Return the error to raise: one that fails the task without a retry if another try would only repeat it.

    An error that ended the run ends with a line that says so, since readers of a log begin at its end.
    """
    if not isinstance(error, _HOPELESS):
        return error
    parts = [str(error)]
    if not is_supervised():
        parts = [_for_dags_test(parts[0], context)]
    if isinstance(error, IncompleteRunError | RunAbortedError) and error.summary is not None:
        parts.append(error.summary["headline"])
    return AirflowFailException("\n\n".join(parts))


def _for_dags_test(text: str, context: Context) -> str:
    """Return a text with the next steps after `airflow dags test`, where nothing can be cleared."""
    news, mark, _ = text.partition(f"\n\n{HOW_TO_GO_ON}")
    run = context["dag_run"]
    if not mark or run.logical_date is None:
        return text
    again = f"airflow dags test {run.dag_id} {run.logical_date.isoformat()}"
    return (
        f"{news}\n\n{HOW_TO_GO_ON}\n"
        "- Remove the cause, and run the DAG again.\n"
        f"- With its logical date this run continues, unless the script or the input has changed: {again}"
    )
