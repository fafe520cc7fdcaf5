"""MiniBatchesOperator: one shard, processed on the node where Airflow places it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.configuration import conf
from airflow.sdk import BaseOperator

from airflow_prs.airflow_side.exceptions import AirflowException, AirflowTaskTimeout
from airflow_prs.airflow_side.failures import no_retry_where_hopeless
from airflow_prs.airflow_side.folders import parallel_run_folder
from airflow_prs.airflow_side.handover import planned_folder
from airflow_prs.airflow_side.masking import known_secrets_masker
from airflow_prs.airflow_side.supervision import orphan_check
from airflow_prs.airflow_side.task_state import progress_teller
from airflow_prs.errors import PrsError, RunAbortedError

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_prs.environments.installing import Method
    from airflow_prs.node.request import NodeRequest
    from airflow_prs.operators.variables import EnvironmentVariables

ERROR_KEY = "error"
logger = logging.getLogger("airflow.task.operators.airflow_prs")
"""Of the task log's family: what goes through it passes Airflow's secrets masker."""

_LONGEST_ERROR = 2000
_INTERNAL = ("_AIRFLOW", "__AIRFLOW")
"""Variables that Airflow's supervisor sets for the task process alone."""


class MiniBatchesOperator(BaseOperator):
    """
    Processes the mini-batches of one shard in worker processes.

    :param plan_task_id: the task that names the run folder.
    :param variables: the environment variables of the worker processes.
    :param shard: what plan says of this shard.
    """

    def __init__(
        self, *, plan_task_id: str, variables: EnvironmentVariables, shard: Mapping[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.variables = variables
        self.shard = shard
        self._is_over = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Process the shard, and return a summary."""
        from airflow_prs.node.running import run_node

        with no_retry_where_hopeless():
            try:
                return run_node(self._request(context))
            except RunAbortedError:
                raise
            except PrsError as error:
                _tell_gatekeeper(context, str(error))
                raise
            except AirflowTaskTimeout:
                limit_s = cast("timedelta", self.execution_timeout).total_seconds()
                _tell_gatekeeper(context, f"execution_timeout of {limit_s:g} seconds is over; what was committed stays")
                raise
            finally:
                self._is_over = True

    def on_kill(self) -> None:
        """
        Stop the node and its processes.

        Airflow calls this from its signal handler and then waits: raising here is what wakes execute(). It also calls
        this after execute() has ended by a timeout, whose error would be replaced by one that is raised here.

        :raises AirflowException: once, unless execute() has ended.
        """
        if not self._is_over:
            self._is_over = True
            raise AirflowException("Airflow has asked this shard to stop; what it committed stays.")

    def _request(self, context: Context) -> NodeRequest:
        from airflow_prs.node.request import NodeRequest

        ti = context["ti"]
        folder = planned_folder(ti, self.plan_task_id)
        return NodeRequest(
            folder=folder,
            shard_number=self.shard["shard"],
            try_number=ti.try_number,
            task_instance_id=str(ti.id),
            max_tries=ti.max_tries,
            environ={name: value for name, value in os.environ.items() if not name.startswith(_INTERNAL)},
            variables=self.variables.render(self, context, folder.read_settings().side_inputs),
            environments_root=parallel_run_folder("environments_root", "environments"),
            install_method=cast("Method", conf.get("standard", "venv_install_method", fallback="auto")),
            tell_progress=progress_teller(context),
            is_orphaned=orphan_check(),
            # After the variables, whose values are known as secrets since they were rendered.
            redact=known_secrets_masker(),
            logger=logger,
        )


def _tell_gatekeeper(context: Context, error: str) -> None:
    """Leave an error where the gatekeeper, which tells why shards failed, finds it."""
    context["ti"].xcom_push(ERROR_KEY, error[:_LONGEST_ERROR])
