"""The job that a command line describes, and its plan."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_prs.cli.job_file import JobFile, read_job_file
from airflow_prs.cli.tables import FILES, find_kind, make_dataset, read_options
from airflow_prs.config.arguments import check_arguments, driver_options, near_misses
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.references import OUTPUT, path_from
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.object_storage.addresses import find_problem, is_remote, shown_path
from airflow_prs.plan.planning import PlanRequest, PlanResult, make_plan
from airflow_prs.records import RunIdentity

logger = logging.getLogger(__name__)

_DAG_ID = "shell"
"""Takes the place of the DAG's id in the path of the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A job, as the command line describes it.

    :param config: the configuration.
    :param name: name of the job file, without suffix.
    :param base: folder of the job file, from which relative paths in it start.
    :param inputs: the inputs, which are cut into mini-batches.
    :param side_inputs: reference data.
    :param output: folder of the result; None: neither the command line nor the job file names one.
    :param arguments: arguments of the entry script; OUTPUT in them stands for the output folder.
    """

    config: ParallelRunConfig
    name: str
    base: str
    inputs: tuple[FileDataset | TabularDataset, ...]
    side_inputs: tuple[FileDataset, ...]
    output: str | None
    arguments: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables of the worker processes."""
        return {name: str(value) for name, value in (self.config.environment_variables or {}).items()}


def read_job(options: argparse.Namespace) -> Job:
    """
    Return the job that a command line and its job file describe; the command line overrides the file.

    :raises ConfigError: if values are wrong; lists all problems.
    """
    path = Path(options.config).absolute()
    problems: list[str] = []
    inputs = _inputs(options, problems)
    side_inputs = {str(dataset.name): dataset for dataset in _side_inputs(options.side_input, problems)}
    file = read_job_file(path, inputs=inputs, side_inputs=side_inputs)
    if getattr(options, "is_only_new", False):
        file = _with_only_new(file, problems)
    arguments = tuple(options.arguments) or file.arguments
    problems += [*file.config.find_file_problems(path.parent), *check_arguments(arguments)]
    problems += file.config.find_size_problems(file.inputs)
    if file.output and (problem := find_problem(file.output)):
        problems.append(f"output is {shown_path(file.output)}: {problem}")
    if problems:
        raise ConfigError(problems)
    for line in (*near_misses(arguments), *driver_options(arguments).notes):
        logger.warning(line)
    return Job(
        config=file.config,
        name=path.stem,
        base=str(path.parent),
        inputs=file.inputs,
        side_inputs=tuple(file.side_inputs.values()),
        output=options.output or file.output,
        arguments=arguments,
    )


def plan_job(job: Job, output: str, *, nodes: int | None) -> PlanResult:
    """
    Plan a run of a job.

    :param output: folder of the result.
    :param nodes: number of shards, instead of that of the configuration; None: that of the configuration.
    """
    config, folder = job.config, output if is_remote(output) else str(Path(output).absolute())
    if nodes is not None:
        config = config.model_copy(update={"node_count": nodes, "mini_batches_per_task": None})
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    request = PlanRequest(
        config=config,
        datasets=job.inputs,
        side_inputs=job.side_inputs,
        arguments=tuple(argument.replace(OUTPUT, folder) for argument in job.arguments),
        output=folder,
        run_root=output,
        dag_folder=job.base,
        # The names of plans sort by time, as those from Airflow do.
        identity=RunIdentity(dag_id=_DAG_ID, run_id=now, task_id=job.name, plan=now),
        # A user who runs a script by hand expects it to run.
        allow_reuse=False,
        # Values are never stored, and a shell has no key for a hash that tells nothing about them.
        variables_hash=None if job.variables else "",
        published_name=config.result_file_name,
    )
    try:
        return make_plan(request)
    except EmptyInputError as error:
        # The rest of the message is about tasks, which a shell does not have.
        raise EmptyInputError(str(error).partition(" on_empty=")[0]) from None


def _with_only_new(file: JobFile, problems: list[str]) -> JobFile:
    try:
        return replace(file, inputs=tuple(replace(dataset, only_new=True) for dataset in file.inputs))
    except ConfigError as error:
        problems += [f"--only-new: {problem}" for problem in error.problems]
        return file


def _inputs(options: argparse.Namespace, problems: list[str]) -> tuple[FileDataset | TabularDataset, ...]:
    kinds = [_kind(path, options, problems) for path in options.input]
    if len(set(kinds)) > 1:
        problems.append("--input mixes files and tables; allowed: one kind, or one of --table and --files for all")
    of_table = read_options(options.table_option, problems)
    if of_table and FILES in kinds:
        problems.append("--table-option is given, but --input is files; allowed: with tables, see --table")
        of_table = {}
    pairs = enumerate(zip(options.input, kinds, strict=True))
    datasets = (_input(f"input_{position}", path, kind, of_table, problems) for position, (path, kind) in pairs)
    return tuple(dataset for dataset in datasets if dataset is not None)


def _input(
    name: str, path: str, kind: str, of_table: Mapping[str, Any], problems: list[str]
) -> FileDataset | TabularDataset | None:
    try:
        return make_dataset(path_from(Path.cwd(), path), kind, of_table).as_named_input(name)
    except ConfigError as error:
        problems += [f"--input: {problem}" for problem in error.problems]
        return None


def _kind(path: str, options: argparse.Namespace, problems: list[str]) -> str:
    if options.is_files:
        return FILES
    if options.table:
        return str(options.table)
    try:
        return find_kind(path)
    except ConfigError as error:
        problems += [f"--input: {problem}" for problem in error.problems]
        return FILES


def _side_inputs(pairs: Sequence[str], problems: list[str]) -> Iterator[FileDataset]:
    names = [pair.partition("=")[0] for pair in pairs]
    problems += [f"--side-input {name} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    for pair in pairs:
        name, _, path = pair.partition("=")
        try:
            yield FileDataset(path_from(Path.cwd(), path)).as_named_input(name)
        except ConfigError as error:
            problems += [f"--side-input {pair}: {problem}" for problem in error.problems]
