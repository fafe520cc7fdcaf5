"""PlanOperator: lists the input, cuts it into mini-batches and divides them into shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseOperator
from jinja2 import TemplateError

from airflow_prs.airflow_side.configuration import conf
from airflow_prs.airflow_side.exceptions import AirflowSkipException
from airflow_prs.airflow_side.folders import run_root
from airflow_prs.airflow_side.handover import Handover, hand_over, last_completed
from airflow_prs.airflow_side.lineage import leave_inputs
from airflow_prs.airflow_side.run_link import RUN_LINKS, leave_link
from airflow_prs.airflow_side.supervision import run_name
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.config.arguments import check_arguments, driver_options, near_misses
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.config.datasets import dataset_from_spec, fill_in_spec
from airflow_prs.config.function_script import FunctionScript
from airflow_prs.config.parameters import PipelineParameter, fill_in
from airflow_prs.errors import ConfigError
from airflow_prs.object_storage.waiting import say_what_is_awaited
from airflow_prs.operators.declaration import OnEmpty, output_problems, with_paths
from airflow_prs.operators.promotion import check_conf
from airflow_prs.operators.queries import run_query
from airflow_prs.operators.variables import keyed_hash
from airflow_prs.records import RunIdentity, Shard
from airflow_prs.wording import shown, wrong

if TYPE_CHECKING:
    from airflow.sdk import Context
    from jinja2 import Environment

    from airflow_prs.config.config import ParallelRunConfig
    from airflow_prs.operators.variables import EnvironmentVariables
    from airflow_prs.plan.planning import PlanRequest


_TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What rendering raises if a template is wrong, or what it uses is missing."""


class PlanOperator(BaseOperator):
    """
    Plans a run, and returns its shards for the mapped task to expand over.

    :param step_id: the id of the ParallelRunOperator.
    :param config: the configuration, with PipelineParameters.
    :param dag_folder: the folder that relative paths start from.
    :param inputs: the specifications of the datasets that are cut into mini-batches. (templated)
    :param side_inputs: the specifications of the reference data. (templated)
    :param result_folder: the folder of the result, or None; `output` is what Airflow calls the XComArg. (templated)
    :param is_output_fixed: whether result_folder is the same in each run.
    :param arguments: the arguments of the entry script. (templated)
    :param parameters: the parameters of the functions that replace an entry script. (templated)
    :param variables: the environment variables.
    :param allow_reuse: whether the rows of an equal earlier run may be used.
    :param on_empty: ``fail``, or ``skip`` the entire step, if nothing matches the inputs.
    :param run_parameters: the parameters that a run may choose for the step, by name; Airflow shows the values that it
        has chosen.
    """

    template_fields: Sequence[str] = (
        "inputs",
        "side_inputs",
        "result_folder",
        "arguments",
        "parameters",
        "run_parameters",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("inputs", "side_inputs", "arguments", "parameters", "run_parameters"), "json"
    )
    operator_extra_links = RUN_LINKS

    def __init__(
        self,
        *,
        step_id: str,
        config: ParallelRunConfig,
        dag_folder: str,
        inputs: list[Any],
        side_inputs: list[Any],
        result_folder: Any,
        is_output_fixed: bool,
        arguments: list[Any],
        parameters: dict[str, Any],
        variables: EnvironmentVariables,
        allow_reuse: bool,
        on_empty: OnEmpty,
        run_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step_id = step_id
        self.config = config
        self.dag_folder = dag_folder
        self.inputs = inputs
        self.side_inputs = side_inputs
        self.result_folder = result_folder
        self.is_output_fixed = is_output_fixed
        self.arguments = arguments
        self.parameters = parameters
        self.variables = variables
        self.allow_reuse = allow_reuse
        self.on_empty = on_empty
        self.run_parameters = run_parameters

    @as_task
    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """
        Render the templates and fill in the values of the run, which Airflow then shows.

        :raises ConfigError: if a template cannot be rendered.
        """
        environment = jinja_env or self.get_template_env()
        for name in self.template_fields:
            rendered, params = self._render_field(name, context, environment), context["params"]
            is_input = name in {"inputs", "side_inputs"}
            filled = [fill_in_spec(spec, params) for spec in rendered] if is_input else fill_in(rendered, params)
            setattr(self, name, filled)

    def _render_field(self, name: str, context: Context, environment: Environment) -> Any:
        template = getattr(self, name)
        try:
            return self.render_template(template, context, environment)
        except _TEMPLATE_ERRORS as error:
            written = "output" if name == "result_folder" else name
            problem = f"{written} is {shown(template)}, which cannot be rendered: {type(error).__name__}: {error}"
            raise ConfigError([problem]) from None

    @as_task
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan the run, push its folder as an XCom, and return its shards."""
        from airflow_prs.plan.planning import make_plan

        ti = context["ti"]
        leave_link(ti)
        # Under an output that is the same in each run, make_plan finds the earlier runs itself.
        needs_earlier = self.allow_reuse or any(spec.get("only_new") for spec in self.inputs)
        completed = last_completed(ti, self.task_id) if needs_earlier and not self.is_output_fixed else None
        check_conf(context["dag_run"].conf, self.dag, self.run_parameters or ())
        request = self._request(context, completed)
        for line in remarks(request.arguments):
            self.log.warning(line)
        with say_what_is_awaited(self.log.warning):
            result = make_plan(request)
        if result.is_empty:
            raise AirflowSkipException("nothing matches the inputs, and on_empty='skip'")
        manifest = result.manifest
        counts = {"mini_batches": manifest.mini_batches, "items": manifest.items, "shards": len(manifest.shards)}
        execution = cast("int", result.folder.execution)
        handover = Handover(folder=str(result.folder.path), execution=execution, completed=completed, **counts)
        hand_over(ti, handover)
        leave_inputs(ti, _input_paths(request), self.dag_folder)
        return [_describe(shard) for shard in (*manifest.shards, *result.borrowing_shards)]

    def _request(self, context: Context, completed: str | None) -> PlanRequest:
        from airflow_prs.inputs.cut_input import local_path
        from airflow_prs.plan.planning import PlanRequest

        ti, params = context["ti"], context["params"]
        config = self.config.resolve(params)
        side_inputs = tuple(dataset_from_spec(spec, params) for spec in self.side_inputs)
        paths = {str(dataset.name): local_path(dataset.to_source(), self.dag_folder)[0] for dataset in side_inputs}
        if isinstance(config.entry_script, FunctionScript):
            script = config.entry_script.resolve(with_paths(fill_in(self.parameters, params), paths))
            config = config.model_copy(update={"entry_script": script})
        return PlanRequest(
            config=config,
            datasets=tuple(dataset_from_spec(spec, params) for spec in self.inputs),
            side_inputs=side_inputs,
            arguments=_arguments(fill_in(self.arguments, params), paths),
            output=_output(fill_in(self.result_folder, params)),
            run_root=run_root(),
            dag_folder=self.dag_folder,
            identity=RunIdentity(dag_id=ti.dag_id, run_id=run_name(context), task_id=self.step_id, plan=str(ti.id)),
            allow_reuse=self.allow_reuse,
            on_empty=self.on_empty,
            variables_hash=self._hash_variables(context, paths),
            earlier=completed,
            published_name=config.result_file_name,
            promoted=tuple(name for name, value in self.config if isinstance(value, PipelineParameter)),
            run_query=run_query,
            max_shards=conf.getint("core", "max_map_length", fallback=1024),
        )

    def _hash_variables(self, context: Context, side_inputs: Mapping[str, str]) -> str | None:
        """Return a hash of the rendered variables; without one there is no reuse."""
        if not self.variables.names:
            return ""
        hashed = keyed_hash(self.variables.render(self, context, side_inputs))
        if hashed is None and self.allow_reuse:
            self.log.info("No reuse: environment_variables are set, and [core] fernet_key is empty")
        return hashed


def remarks(arguments: Sequence[str]) -> list[str]:
    """
    Return warnings about arguments that are allowed.

    :raises ConfigError: if one is not allowed, which plan sees first if a template makes it.
    """
    if problems := check_arguments(arguments):
        raise ConfigError(problems)
    return [*near_misses(arguments), *driver_options(arguments).notes]


def _describe(shard: Shard) -> dict[str, Any]:
    return {
        "shard": shard.number,
        "first": None if shard.is_borrowing else shard.first,
        "last": None if shard.is_borrowing else shard.end - 1,
        "items": shard.items,
        "label": shard.label,
    }


def _input_paths(request: PlanRequest) -> Iterator[str]:
    for dataset in request.datasets:
        # A query has no path.
        if dataset.path:
            yield from dataset.to_source().paths


def _output(output: Any) -> str | None:
    if output is None:
        return None
    path = as_text(output)
    if not isinstance(path, str):
        raise ConfigError([wrong("output", output, "the path of a folder, or an address on object storage")])
    if problems := list(output_problems(path)):
        raise ConfigError(problems)
    return path


def _arguments(rendered: Sequence[Any], side_inputs: Mapping[str, str]) -> tuple[str, ...]:
    placed = with_paths(list(rendered), side_inputs)
    problems = [
        wrong(f"arguments[{position}]", value, "text or a number, also where a template or a task makes it")
        for position, value in enumerate(placed)
        if value is None or isinstance(value, dict | list | tuple)
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(map(str, placed))
