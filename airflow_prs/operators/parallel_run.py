"""ParallelRunOperator: a step of a DAG, which is a group of four tasks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskGroup

from airflow_prs.airflow_side.authoring import PlannedShards, StepOutput, free_id, is_parsing_dag_file
from airflow_prs.airflow_side.configuration import conf
from airflow_prs.airflow_side.pods import with_pod
from airflow_prs.config.compute import LOCAL, ComputeTarget, find_compute_target, load_compute_targets
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset
from airflow_prs.config.declaring import collected, defer_while
from airflow_prs.errors import ConfigError
from airflow_prs.operators.dealing import check_task_arguments, deal
from airflow_prs.operators.declaration import check_id_length, choose_id, declare
from airflow_prs.operators.merge import MergeOperator
from airflow_prs.operators.mini_batches import MiniBatchesOperator
from airflow_prs.operators.plan import PlanOperator
from airflow_prs.operators.promotion import add_params
from airflow_prs.operators.variables import EnvironmentVariables
from airflow_prs.sensors.gatekeeper import GatekeeperSensor
from airflow_prs.step_tasks import GATEKEEPER, MERGE, MINI_BATCHES, PLAN

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from typing_extensions import Unpack

    from airflow_prs.operators.dealing import Dealt
    from airflow_prs.operators.declaration import Declaration, Inputs, OnEmpty
    from airflow_prs.operators.settings_types import TaskArguments


defer_while(is_parsing_dag_file)


class ParallelRunOperator(TaskGroup):
    """
    Processes a dataset in parallel: mini-batches on several nodes, thresholds for failures, one result.

    A task group with the tasks ``<task_id>.plan``, ``.mini_batches`` (mapped, one instance for each shard),
    ``.gatekeeper`` and ``.merge``. ``>>`` works as with any operator. inputs, side_inputs, output, arguments and the
    configuration's environment_variables may contain templates and what other tasks return.

    :param task_id: the id of the group.
    :param name: the original's name for task_id; pass one of the two.
    :param parallel_run_config: how the script is run.
    :param inputs: what is cut into mini-batches: datasets of one kind, or paths, which are a FileDataset. Ignored, and
        not required, if arguments contain ``--rank_mini_batch_count``.
    :param side_inputs: reference data, available on every node; in arguments and environment_variables, its local path
        replaces it.
    :param output: the folder of the result, an absolute path that is the same on all nodes; None only with
        ``output_action="summary_only"``.
    :param arguments: the arguments of the entry script, the first of which begins with ``-``.
    :param allow_reuse: use the rows of an earlier completed run with the same configuration, code, arguments and input.
    :param on_empty: ``fail``, or ``skip`` the group, if nothing matches the inputs.
    :param dag: as for any operator.
    :param task_group: the group around this one.
    :param default_args: as for any operator, except that a trigger_rule is ignored, and that ``deferrable=False`` lets
        the gatekeeper reschedule instead of waiting in the triggerer.
    :param task_arguments: the arguments of Airflow's BaseOperator. trigger_rule goes to plan; so do depends_on_past and
        wait_for_downstream, each of which lets the step wait until the entire step of the run before has succeeded;
        outlets and on_success_callback go to merge; retries, retry_delay and execution_timeout to mini_batches;
        on_failure_callback and email_on_failure to all tasks, but shards that an abort ended send no message; the
        others to all tasks.
    """

    def __init__(
        self,
        *,
        parallel_run_config: ParallelRunConfig,
        inputs: Inputs = None,
        task_id: str | None = None,
        name: str | None = None,
        side_inputs: Sequence[FileDataset] | FileDataset | None = None,
        output: Any = None,
        arguments: Sequence[Any] | None = None,
        allow_reuse: bool = True,
        on_empty: OnEmpty = "fail",
        dag: DAG | None = None,
        task_group: TaskGroup | None = None,
        default_args: dict[str, Any] | None = None,
        **task_arguments: Unpack[TaskArguments],
    ) -> None:
        problems: list[str] = []
        step_id = None
        with collected(problems):
            step_id = choose_id(task_id, name)
        with collected(problems):
            check_task_arguments(task_arguments, STEP_PARAMETERS, type(self).__name__)
        place: dict[str, Any] = {"dag": dag, "parent_group": task_group}
        super().__init__(
            group_id=step_id or free_id("step", dag, task_group),  # of a group that reports the problems
            tooltip=getattr(parallel_run_config, "description", None) or "",
            group_display_name=task_arguments.pop("task_display_name", None) or "",
            default_args=default_args or {},  # type: ignore[arg-type]  # attrs' converter confuses mypy
            **{parameter: value for parameter, value in place.items() if value is not None},
        )
        self.doc_md = task_arguments.get("doc_md")  # no argument of Airflow 3.1's constructor
        with collected(problems):
            self._check_place()
        target = ComputeTarget()
        with collected(problems):
            target = find_compute_target(getattr(parallel_run_config, "compute_target", LOCAL), declared_targets())
        with collected(problems):
            declaration = declare(
                parallel_run_config,
                inputs=inputs,
                side_inputs=side_inputs,
                output=output,
                arguments=arguments,
                allow_reuse=allow_reuse,
                on_empty=on_empty,
                dag_folder=str(Path(self.dag.fileloc).absolute().parent),
            )
            add_params(self.dag, declaration.promotions, section=f"Step {self.group_id}")
        if problems:
            raise ConfigError(problems, step=step_id or "")
        inherited = {**self.dag.default_args, **self.default_args}
        dealt = deal(parallel_run_config, task_arguments, inherited, with_pod(target.to_arguments()))
        self._add_tasks(declaration, dealt, allow_reuse=allow_reuse, on_empty=on_empty)

    if not TYPE_CHECKING:
        # Without it, this is a problem like all others. Type checkers still require it.
        __init__.__kwdefaults__["parallel_run_config"] = None

    @property
    def output(self) -> StepOutput:
        """The location of the result, for downstream tasks."""
        return StepOutput(self.merge)

    @property
    def summary(self) -> StepOutput:
        """A RunSummary of the published result, for downstream tasks."""
        return self.output.summary

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.group_id}>"

    def _check_place(self) -> None:
        check_id_length(str(self.group_id))
        for group in self.iter_mapped_task_groups():
            problem = (
                f"{self.group_id} is inside the mapped task group {group.group_id!r}, where Airflow cannot map "
                "tasks again; put it outside, with the inputs of all instances"
            )
            raise ConfigError([problem])

    def _add_tasks(self, declaration: Declaration, dealt: Dealt, *, allow_reuse: bool, on_empty: OnEmpty) -> None:
        variables = EnvironmentVariables(declaration.variables)
        place: dict[str, Any] = {"dag": self.dag, "task_group": self}
        self.plan = PlanOperator(
            task_id=PLAN,
            step_id=str(self.group_id),
            config=declaration.config,
            dag_folder=declaration.dag_folder,
            inputs=[dataset.to_spec() for dataset in declaration.inputs],
            side_inputs=[dataset.to_spec() for dataset in declaration.side_inputs],
            result_folder=declaration.output,
            is_output_fixed=declaration.is_output_fixed,
            arguments=list(declaration.arguments),
            parameters=dict(declaration.parameters),
            variables=variables,
            allow_reuse=allow_reuse,
            on_empty=on_empty,
            run_parameters={name: each.parameter for name, each in declaration.promotions.items()},
            **place,
            **dealt.plan,
        )
        variables.add_edges(self.plan)
        named = {"plan_task_id": self.plan.task_id, **place}
        self.mini_batches = MiniBatchesOperator.partial(
            task_id=MINI_BATCHES, variables=variables, **named, **dealt.mini_batches
        ).expand(shard=PlannedShards(self.plan))
        self.gatekeeper = GatekeeperSensor(
            task_id=GATEKEEPER, shards_task_id=self.mini_batches.task_id, **named, **dealt.gatekeeper
        )
        self.merge = MergeOperator(task_id=MERGE, shards_task_id=self.mini_batches.task_id, **named, **dealt.merge)
        # The gatekeeper runs beside the shards, but what clears them and what follows them clears it, too.
        self.gatekeeper << [self.plan, self.mini_batches]
        # From plan, too: a plan that waits for the run before waits for the tasks directly after it.
        self.merge << [self.plan, self.mini_batches, self.gatekeeper]


ParallelRunTaskGroup = ParallelRunOperator
"""Another name, for those who look for a task group."""

STEP_PARAMETERS = frozenset(inspect.signature(ParallelRunOperator.__init__).parameters) - {"self", "task_arguments"}
"""The parameters of ParallelRunOperator that are not Airflow's own."""


def declared_targets() -> Mapping[str, ComputeTarget]:
    """
    Return the compute targets that the Airflow installation declares.

    :raises ConfigError: if their file has problems.
    """
    path = conf.get("parallel_run", "compute_targets", fallback=None)
    return load_compute_targets(path) if path else {}
