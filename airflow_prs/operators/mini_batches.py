"""MiniBatchesOperator: one shard, processed on the node where Airflow places it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseOperator

from airflow_prs.airflow_side.clears import this_try
from airflow_prs.airflow_side.configuration import conf
from airflow_prs.airflow_side.exceptions import AirflowException, AirflowTaskTimeout
from airflow_prs.airflow_side.folders import environments_root
from airflow_prs.airflow_side.handover import leave_error, leave_position, planned
from airflow_prs.airflow_side.masking import known_secrets_masker
from airflow_prs.airflow_side.metrics import metrics_teller
from airflow_prs.airflow_side.run_link import RUN_LINKS, leave_link
from airflow_prs.airflow_side.supervision import is_supervised, orphan_check
from airflow_prs.airflow_side.task_state import progress_teller
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.errors import PrsError, RunAbortedError

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_prs.environments.installing import Method
    from airflow_prs.node.request import NodeRequest
    from airflow_prs.operators.variables import EnvironmentVariables

logger = logging.getLogger("airflow.task.operators.airflow_prs")
"""A child of Airflow's task logger, so that Airflow masks secrets in what it writes."""

_AWAITS_OTHERS_S = 60.0
"""Longer than Airflow usually needs to start all shards, which it has queued together."""

_INTERNAL = ("_AIRFLOW", "__AIRFLOW")
"""Prefixes of the variables that Airflow's supervisor sets for the task process alone."""


class MiniBatchesOperator(BaseOperator):
    """
    Processes the mini-batches of one shard in worker processes.

    :param plan_task_id: the id of the task that returns the run folder.
    :param variables: the environment variables of the worker processes.
    :param shard: this shard's item of the list that plan returns.
    """

    operator_extra_links = RUN_LINKS

    def __init__(
        self, *, plan_task_id: str, variables: EnvironmentVariables, shard: Mapping[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.variables = variables
        self.shard = shard
        self._is_over = False

    @as_task
    def execute(self, context: Context) -> dict[str, Any]:
        """Process the shard, and return a summary."""
        try:
            leave_link(context["ti"])
            return self._run(context)
        except RunAbortedError as error:
            # One abort is one message, and the gatekeeper sends it.
            self.on_failure_callback, self.email_on_failure = (), False
            raise RunAbortedError(f"{error} The error of gatekeeper has the details.") from None
        except PrsError as error:
            leave_error(context["ti"], str(error))
            raise
        except AirflowTaskTimeout:
            limit_s = cast("timedelta", self.execution_timeout).total_seconds()
            leave_error(context["ti"], f"execution_timeout of {limit_s:g} seconds is over; what was committed stays")
            raise
        finally:
            self._is_over = True

    def on_kill(self) -> None:
        """
        Stop the node and its processes.

        Airflow calls this from its signal handler and then waits: the error that is raised here ends execute(). Airflow
        also calls it where it handles a timeout; an error raised here would replace the timeout's.

        :raises AirflowException: once, unless execute() has ended.
        """
        if not self._is_over and not isinstance(sys.exc_info()[1], AirflowTaskTimeout):
            self._is_over = True
            raise AirflowException("Airflow has asked this shard to stop; what it committed stays.")

    def _run(self, context: Context) -> dict[str, Any]:
        from airflow_prs.node.running import run_node

        request = self._request(context)
        try:
            return run_node(request)
        finally:
            # If the storage has a problem, it is the node's error that counts.
            with contextlib.suppress(OSError, PrsError):
                shard = request.folder.read_manifest().shard(request.shard_number)
                leave_position(context["ti"], request.folder, shard)

    def _request(self, context: Context) -> NodeRequest:
        from airflow_prs.node.request import NodeRequest
        from airflow_prs.run_folder.folder import RunFolder

        handover = planned(context["ti"], self.plan_task_id)
        folder = RunFolder(handover.folder)
        logger.info("The run folder is %s", folder.path)
        return NodeRequest(
            folder=folder,
            shard_number=self.shard["shard"],
            task_try=this_try(context, handover.execution),
            environ={name: value for name, value in os.environ.items() if not name.startswith(_INTERNAL)},
            variables=self.variables.render(self, context, folder.read_settings().side_inputs),
            environments_root=environments_root(),
            install_method=cast("Method", conf.get("standard", "venv_install_method", fallback="auto")),
            tell_progress=progress_teller(context),
            tell_counts=metrics_teller(context),
            is_orphaned=orphan_check(),
            # `airflow dags test` runs one task at a time: nobody else begins meanwhile.
            awaits_others_s=_AWAITS_OTHERS_S if is_supervised() else 0.0,
            # After the variables: rendering them makes their values known as secrets.
            redact=known_secrets_masker(),
            logger=logger,
        )
