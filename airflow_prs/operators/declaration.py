"""What the author of a DAG declares, checked when the DAG is parsed: one error lists all problems."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_prs.config.arguments import check_arguments, may_need_no_inputs
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.config.datasets import Dataset, FileDataset, TabularDataset
from airflow_prs.config.declaring import Refused
from airflow_prs.config.function_script import FunctionScript
from airflow_prs.config.parameters import (
    PipelineParameter,
    Promotion,
    Words,
    combine_promotions,
    find_parameters,
    promote,
    title_of,
)
from airflow_prs.errors import ConfigError
from airflow_prs.object_storage.addresses import find_problem, is_remote, shown_path
from airflow_prs.records import DIRECT
from airflow_prs.step_tasks import TASKS, task_of
from airflow_prs.wording import shown, wrong

OnEmpty = Literal["fail", "skip"]

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    FilePath = str | os.PathLike[str] | PipelineParameter | XComArg
    Inputs = Dataset | FilePath | Sequence[FileDataset | TabularDataset] | Sequence[FilePath] | None

_GROUP_ID = re.compile(r"[\w-]{1,200}")
LONGEST_ID = 250
_LONGEST_ENDING = max((task_of("", task) for task in TASKS), key=len)
_PATHS = (str, os.PathLike, PipelineParameter)
_OUTPUT_ALLOWED = "an absolute path, an address such as s3://conn_id@bucket/key"
_VALUE = {"type": ["string", "number", "integer", "boolean", "null"]}


@dataclass(frozen=True, slots=True)
class SideInputPath:
    """
    A placeholder for the local path of a side input.

    :param name: the name of the side input.
    """

    name: str

    def __str__(self) -> str:
        """Return what Airflow shows among the rendered arguments."""
        return f"<local path of {self.name}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """
    A step as its author declared it.

    :param config: the configuration, with PipelineParameters.
    :param inputs: what is cut into mini-batches, each with a name; none with ``--rank_mini_batch_count``.
    :param side_inputs: reference data, each with a name.
    :param output: the folder of the result: text, a template, or what another task returns; None with summary_only.
    :param arguments: the arguments of the entry script; a SideInputPath replaces a side input.
    :param variables: the environment variables, with the same kinds of values.
    :param parameters: the parameters of the functions that replace an entry script, with the same kinds of values.
    :param dag_folder: the folder that relative paths start from.
    :param promotions: the parameters that a run may choose, by name.
    """

    config: ParallelRunConfig
    inputs: tuple[Dataset, ...]
    side_inputs: tuple[FileDataset, ...]
    output: Any
    arguments: tuple[Any, ...]
    variables: Mapping[str, Any] = field(repr=False)
    parameters: Mapping[str, Any]
    dag_folder: str
    promotions: Mapping[str, Promotion]

    @property
    def is_output_fixed(self) -> bool:
        """Whether the output is the same in each run."""
        return self.output is None or is_plain_text(self.output)


def declare(
    config: Any,
    *,
    inputs: Any,
    side_inputs: Any,
    output: Any,
    arguments: Any,
    allow_reuse: Any,
    on_empty: Any,
    dag_folder: str,
) -> Declaration:
    """
    Return a step as its author declared it.

    :param config: the configuration; what stands for a wrong one adds its problems.
    :param dag_folder: the folder of the DAG file.
    :raises ConfigError: with all problems.
    """
    problems = list(_config_problems(config, dag_folder))
    known = config if isinstance(config, ParallelRunConfig) else None
    named_inputs = _named(_as_dataset(inputs), "inputs", "input", problems, allowed="a FileDataset or TabularDataset")
    named_side_inputs = _named(side_inputs, "side_inputs", "side_input", problems, allowed="a FileDataset")
    listed_arguments = _listed(arguments, "arguments", problems)
    may_be_none = bool(inputs) or may_need_no_inputs(listed_arguments)
    problems += _input_problems(named_inputs, may_be_none=may_be_none)
    problems += _side_input_problems(named_inputs, named_side_inputs)
    problems += known.find_size_problems(named_inputs) if known else []
    problems += _output_problems(known, output)
    problems += check_arguments(listed_arguments)
    if not isinstance(allow_reuse, bool):
        problems.append(wrong("allow_reuse", allow_reuse, "True or False"))
    if on_empty not in get_args(OnEmpty):
        problems.append(wrong("on_empty", on_empty, "'fail' or 'skip'"))
    variables = (known and known.environment_variables) or {}
    script = known and known.entry_script
    parameters: Mapping[str, Any] = script.parameters if isinstance(script, FunctionScript) else {}

    def marked(value: Any, place: str) -> Any:
        return _marked(value, named_side_inputs, place, problems)

    marked_arguments = [marked(value, "arguments") for value in listed_arguments]
    marked_variables = {name: marked(value, f"environment_variables[{name!r}]") for name, value in variables.items()}
    marked_parameters = {name: marked(value, f"the parameter {name}") for name, value in parameters.items()}
    free = {"output": output, "arguments": listed_arguments, "environment_variables": variables}
    free.update((f"the parameter {name}", value) for name, value in parameters.items())
    promotions = _promotions(known, [*named_inputs, *named_side_inputs], free, problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))  # the same wrong dataset may stand in two places
    return Declaration(
        config=config,
        inputs=tuple(named_inputs),
        side_inputs=tuple(each for each in named_side_inputs if isinstance(each, FileDataset)),
        output=as_text(output),
        arguments=tuple(marked_arguments),
        variables=marked_variables,
        parameters=marked_parameters,
        dag_folder=dag_folder,
        promotions=promotions,
    )


def choose_id(task_id: str | None, name: str | None) -> str:
    """
    Return the step's id, which the original calls its name.

    :raises ConfigError: if it is missing, passed twice, or not allowed.
    """
    if (task_id is None) == (name is None):
        raise ConfigError(["task_id: give either task_id or name, which mean the same"])
    chosen = task_id if task_id is not None else name
    if not isinstance(chosen, str) or not _GROUP_ID.fullmatch(chosen):
        allowed = "letters, digits, dashes and underscores, at most 200, as for any task group of Airflow"
        raise ConfigError([wrong("task_id", chosen, allowed)])
    return chosen


def check_id_length(group_id: str) -> None:
    """
    Check that the ids of the tasks inside are not too long for Airflow.

    :param group_id: the id of the step, with the ids of the groups around it.
    :raises ConfigError: if they are too long.
    """
    longest = LONGEST_ID - len(_LONGEST_ENDING)
    if len(group_id) > longest:
        problem = (
            f"task_id has {len(group_id)} characters with the groups around it; allowed: {longest}, since a task is "
            f"named <task_id>{_LONGEST_ENDING} and Airflow takes {LONGEST_ID}"
        )
        raise ConfigError([problem])


def _config_problems(config: Any, dag_folder: str) -> Iterator[str]:
    if isinstance(config, ParallelRunConfig):
        yield from config.find_file_problems(dag_folder)
    elif isinstance(config, Refused):
        yield from config.problems
    else:
        yield wrong("parallel_run_config", config, "a ParallelRunConfig")


def _listed(value: Any, name: str, problems: list[str]) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, Dataset | Refused):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    problems.append(wrong(name, value, "a list"))
    return []


def _as_dataset(inputs: Any) -> Any:
    """Return a FileDataset of a path, or of a list that holds only paths; return other inputs unchanged."""
    listed = inputs if isinstance(inputs, list | tuple) else [inputs]
    if listed and all(isinstance(each, _PATHS) or hasattr(each, "iter_references") for each in listed):
        return FileDataset(inputs)
    return inputs


def _named(value: Any, parameter: str, default: str, problems: list[str], *, allowed: str) -> list[Dataset]:
    """Return the datasets; those without a name get one by their position."""
    named: list[Dataset] = []
    for position, dataset in enumerate(_listed(value, parameter, problems)):
        if isinstance(dataset, Refused):
            problems += dataset.problems
        elif not isinstance(dataset, Dataset):
            problems.append(wrong(f"{parameter}[{position}]", dataset, allowed))
        else:
            named.append(dataset if dataset.name else dataset.as_named_input(f"{default}_{position}"))
    return named


def _input_problems(inputs: Sequence[Dataset], *, may_be_none: bool) -> Iterator[str]:
    if not inputs and not may_be_none:
        yield "inputs is empty; allowed: a list of at least one FileDataset or TabularDataset"
    if len({type(dataset) for dataset in inputs}) > 1:
        yield "inputs mixes FileDataset and TabularDataset; allowed: one of the two, for all inputs"


def _side_input_problems(inputs: Sequence[Dataset], side_inputs: Sequence[Dataset]) -> Iterator[str]:
    names = [dataset.name for dataset in [*inputs, *side_inputs]]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield f"{name!r} is the name of two inputs; use as_named_input for different names"
    for dataset in side_inputs:
        if not isinstance(dataset, FileDataset):
            yield f"side_inputs: {dataset.name!r} is a TabularDataset; allowed: FileDataset"
        elif dataset.mode == DIRECT:
            yield (
                f"side_inputs: {dataset.name!r} has mode='direct'; allowed: mode='download', or no side input: write "
                "the address into arguments"
            )
        elif dataset.only_new:
            yield f"side_inputs: {dataset.name!r} has only_new=True; allowed for inputs only"


def _output_problems(config: ParallelRunConfig | None, output: Any) -> Iterator[str]:
    if output is None:
        if config is not None and config.output_action != "summary_only":
            yield "output is missing; it may be left out with output_action='summary_only' only"
        return
    path = as_text(output)
    if isinstance(path, str):
        yield from output_problems(path)
    elif isinstance(output, Refused):
        yield from output.problems
    elif not (hasattr(output, "iter_references") or list(find_parameters(output))):
        yield wrong("output", output, f"{_OUTPUT_ALLOWED}, a template, or what another task returns")


def is_plain_text(value: Any) -> bool:
    """Whether a value is text that no template changes."""
    return isinstance(value, str) and "{{" not in value and "{%" not in value


def output_problems(output: str) -> Iterator[str]:
    """
    Yield what is wrong with an output; of a template, what is wrong in any case.

    A local path must be absolute: nodes may have different working directories.
    """
    if problem := find_problem(output):
        yield f"output is {shown_path(output)}; {problem}"
    elif is_plain_text(output) and not is_remote(output) and not Path(output).is_absolute():
        yield wrong("output", output, f"{_OUTPUT_ALLOWED}, the same on all nodes")


def _marked(value: Any, side_inputs: Iterable[Dataset], place: str, problems: list[str]) -> Any:
    """Replace side inputs by placeholders for their local paths, also inside lists and dicts."""
    if isinstance(value, list):
        return [_marked(inner, side_inputs, place, problems) for inner in value]
    if isinstance(value, dict):
        return {name: _marked(inner, side_inputs, place, problems) for name, inner in value.items()}
    if isinstance(value, Refused):
        problems += value.problems
    if not isinstance(value, Dataset):
        return value
    for dataset in side_inputs:
        if value == dataset or (value.name is None and value.as_named_input(str(dataset.name)) == dataset):
            return SideInputPath(str(dataset.name))
    problems.append(f"{place} holds {shown(value)}; allowed: a dataset that is in side_inputs")
    return value


def with_paths(value: Any, side_inputs: Mapping[str, str]) -> Any:
    """
    Return a value in which local paths replace the placeholders, and lists the lazy sequences of mapped tasks.

    :param side_inputs: the local path of each side input.
    """
    if isinstance(value, SideInputPath):
        return side_inputs[value.name]
    if isinstance(value, Mapping):
        return {name: with_paths(inner, side_inputs) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | tuple):
        return [with_paths(inner, side_inputs) for inner in value]
    return value


def _words(parameter: PipelineParameter, place: str) -> Words:
    if place == "output":
        return Words(title="Folder of the result", effect="Where the step writes its result and its reports.")
    if place == "arguments":
        effect = "The script receives this value as an argument."
    elif place == "environment_variables":
        effect = "The script receives this value as an environment variable."
    else:
        effect = "The function of the step receives this value."
    return Words(title=title_of(parameter.name), effect=effect)


def _promotions(
    config: ParallelRunConfig | None, datasets: Iterable[Dataset], free: Mapping[str, Any], problems: list[str]
) -> Mapping[str, Promotion]:
    found = [
        *(config.promoted().values() if config else ()),
        *(each for dataset in datasets for each in dataset.promoted()),
    ]
    found += [
        promote(parameter, place, _VALUE, _words(parameter, place))
        for place, value in free.items()
        for parameter in find_parameters(value)
    ]
    try:
        return combine_promotions(found)
    except ConfigError as error:
        problems.extend(error.problems)
        return {}
