"""What each task of ours runs in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.failures import for_airflow
from airflow_prs.airflow_side.handover import leave_summary
from airflow_prs.airflow_side.object_storage import use_airflow_connections
from airflow_prs.errors import IncompleteRunError, PrsError, RunAbortedError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_prs.report.summary import RunSummary

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def as_task(method: Callable[..., _T]) -> Callable[..., _T]:
    """
    Let a method of an operator run as a task: with Airflow's connections, and with errors that name what matters.

    Errors of ours reach Airflow without our own frames, since their texts say everything; a log with level DEBUG has
    them. Errors that another try would only repeat fail the task without a retry. What is known of a run that has ended
    is left for callbacks and later tasks.

    :param method: its first argument is Airflow's context.
    """

    @wraps(method)
    def run(self: Any, context: Context, *arguments: Any, **options: Any) -> _T:
        use_airflow_connections()
        try:
            try:
                return method(self, context, *arguments, **options)
            except PrsError as error:
                _log.debug("The task fails.", exc_info=True)
                if isinstance(error, IncompleteRunError | RunAbortedError) and error.summary is not None:
                    leave_summary(context, cast("RunSummary", error.summary))
                raise for_airflow(error, context) from None
        except (PrsError, AirflowFailException) as error:
            # From Python 3.11 on, an exception that is raised again gets no entry for this frame.
            error.__traceback__ = None
            raise

    return run
